"""discriminator_loss_and_grad and generator_loss_and_grad: the results of autograd, without a graph."""

import pytest
import torch
from helpers import DEVICES, FLOATS, raises
from helpers.losses import (
    CASES,
    DISTINCT,
    DRAWS,
    as_list,
    assert_same_bits,
    cases_of,
    detached,
    eager_results,
    logits_like,
    scales_like,
    truth,
    weighted,
)
from helpers.truth import assert_as_accurate

from pygan import fused_losses
from pygan.fused_losses import (
    LOSSES,
    LossStats,
    discriminator_loss_and_grad,
    generator_loss_and_grad,
)

SHAPES = [(5,), (3, 171), (), (9001,)]
WEIGHTS = [0.3, 2.0, 1.0, -0.5]


def inputs_of(case, kind, dtype, device, seed=0):
    if kind == "tensors":
        return logits_like(case.roles, (9001,), dtype, device, seed)
    return scales_like(case, SHAPES, dtype, device, seed)


KINDS = [("tensors", None), ("lists", None), ("lists", WEIGHTS)]
IDS = ["tensors", "lists", "weights"]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("kind", "weights"), KINDS, ids=IDS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("loss", LOSSES)
def test_equals_autograd(loss, dtype, kind, weights, device):
    for case in cases_of(loss):
        for reduction in ("mean", "sum"):
            options = {"reduction": reduction, **weighted(weights)}
            inputs = inputs_of(case, kind, dtype, device)
            leaves = [detached(x) for x in inputs]
            got = case.call(inputs, suffix="_and_grad", **options)
            assert isinstance(got, fused_losses.LossAndGrad) and got.stats is None
            value, stats = case.call(leaves, return_stats=True, **options)
            assert_same_bits([got.loss], [value.detach()])
            again = case.call(leaves, suffix="_and_grad", return_stats=True, **options)
            assert isinstance(again.stats, LossStats)
            assert_same_bits([again.loss, *again.stats], [value.detach(), *stats])
            # A tensor for a tensor, a list for a list.
            assert isinstance(got.grads, tuple) and len(got.grads) == len(inputs)
            for grad, given in zip(got.grads, inputs, strict=True):
                assert isinstance(grad, torch.Tensor if kind == "tensors" else list)
                for g, x in zip(as_list(grad), as_list(given), strict=True):
                    assert g.dtype == x.dtype and g.shape == x.shape and g.device == x.device
            assert_same_bits(as_list(got.grads), as_list(again.grads))
            if device == "cpu":
                grads = torch.autograd.grad(value, as_list(leaves))
                assert_same_bits(as_list(got.grads), grads, f"{case}, {reduction}")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("kind", "weights"), KINDS, ids=IDS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_gradients_are_as_accurate_as_eager_ones(dtype, kind, weights, device):
    for case in DISTINCT:
        got, baseline, want = [], [], []
        for seed in range(DRAWS):
            inputs = inputs_of(case, kind, dtype, device, 10 * seed)
            result = case.call(inputs, suffix="_and_grad", **weighted(weights))
            got.append(as_list(result.grads))
            baseline.append(
                eager_results(
                    case, "mean", inputs, weights, torch.promote_types(dtype, torch.float32)
                )[1]
            )
            want.append(truth(case, "mean", inputs, weights)[1])
        relative = case.is_conditioned("mean", 1, weights)
        assert_as_accurate(got, {"eager": baseline}, want, relative=relative, what=str(case))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["tensors", "lists"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_graph_is_recorded(case, kind, device):
    """Whether the logits require grad or not, in any mode; the logits do not change."""
    inputs = inputs_of(case, kind, torch.float32, device)
    want = case.call(inputs, suffix="_and_grad", return_stats=True)
    leaves = [detached(x) for x in inputs]
    derived = [[t * 1 for t in x] if isinstance(x, list) else x * 1 for x in leaves]
    for given in (leaves, derived):
        before = [t._version for t in as_list(given)]
        for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
            with mode():
                got = case.call(given, suffix="_and_grad", return_stats=True)
            tensors = [got.loss, *as_list(got.grads), *got.stats]
            assert not any(t.requires_grad or t.grad_fn for t in tensors)
            with torch.inference_mode():  # in which inference tensors can be read
                assert_same_bits(tensors, [want.loss, *as_list(want.grads), *want.stats])
        assert [t._version for t in as_list(given)] == before
    assert all(t.grad is None for t in as_list(leaves))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_can_be_modified_by_the_caller(case, device):
    inputs = inputs_of(case, "lists", torch.float32, device)
    first = case.call(inputs, suffix="_and_grad")
    kept = [g.clone() for g in as_list(first.grads)]
    for g in as_list(first.grads):
        g.fill_(7.0)
    assert_same_bits(kept, as_list(case.call(inputs, suffix="_and_grad").grads))


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_have_the_strides_of_autograd(device):
    x = torch.randn(4, 3, 5, 6, device=device)
    for y in (
        x.to(memory_format=torch.channels_last),
        x.permute(3, 0, 2, 1),
        x[:, :, ::2],
        x[:, :1].expand(4, 7, 5, 6),
    ):
        got = discriminator_loss_and_grad(y, y.flip(0), loss="relativistic")
        assert got.grads[0].stride() == torch.empty_like(y).stride()
        leaf = detached(y)
        value = fused_losses.discriminator_loss(leaf, y.flip(0), loss="relativistic")
        (want,) = torch.autograd.grad(value, leaf)
        assert torch.equal(got.grads[0], want)


@pytest.mark.parametrize("device", DEVICES)
def test_backward_through_the_network(device):
    """The intended use: the gradients go directly into the networks."""
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 1).to(device)
    data = torch.randn(2, 8, 3, device=device)
    real, fake = net(data[0]), net(data[1])
    loss, grads, stats, _ = discriminator_loss_and_grad(real, fake, loss="hinge", return_stats=True)
    fused_losses.LossAndGrad(loss, grads, stats).backward(real, fake)
    got = [p.grad for p in net.parameters()]
    value = fused_losses.discriminator_loss(net(data[0]), net(data[1]), loss="hinge")
    assert torch.equal(loss, value) and stats.nonfinite.item() == 0
    for g, w in zip(got, torch.autograd.grad(value, list(net.parameters())), strict=True):
        torch.testing.assert_close(g, w)
    assert len(generator_loss_and_grad(fake).grads) == 1
    both = generator_loss_and_grad(fake, real_logits=real, loss="relativistic_average")
    assert len(both.grads) == 2


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("kind", "weights"), KINDS, ids=IDS)
@pytest.mark.parametrize("loss", LOSSES)
def test_backward_equals_torch(loss, kind, weights, device):
    """Including hooks, and if only some of the logits require grad."""
    for case in cases_of(loss):
        inputs = inputs_of(case, kind, torch.float32, device)
        result = case.call(inputs, suffix="_and_grad", **weighted(weights))
        for count in range(1, len(inputs) + 1):
            grads = []
            for way in ("ours", "torch"):
                leaves = [[detached(x) for x in as_list(given)] for given in inputs]
                logits = [[(x * 2).sin() for x in xs] for xs in leaves]
                logits[0][0].register_hook(lambda grad: 3 * grad)
                some = [x if kind == "lists" else x[0] for x in logits[:count]]
                if way == "ours":
                    result.backward(*some)
                else:
                    flat = [g for given in result.grads[:count] for g in as_list(given)]
                    torch.autograd.backward(as_list(logits[:count]), flat)
                grads.append([x.grad for xs in leaves[:count] for x in xs])
            assert_same_bits(*grads)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", ["hinge", "relativistic_average"])
def test_backward_twice_over_one_graph(loss, device):
    """With retain_graph, as in torch; without it, the second call raises."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).to(
        device
    )
    real, fake = net(torch.randn(2, 8, 3, device=device))
    result = discriminator_loss_and_grad(real, fake, loss=loss)
    result.backward(real, fake, retain_graph=True)
    first = [p.grad.clone() for p in net.parameters()]
    result.backward(real, fake)
    for p, grad in zip(net.parameters(), first, strict=True):
        torch.testing.assert_close(p.grad, 2 * grad)
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        result.backward(real, fake)
    with raises(
        TypeError, "pygan.fused_losses.LossAndGrad.backward: retain_graph must be a bool, got int"
    ):
        result.backward(real, fake, retain_graph=1)


@pytest.mark.parametrize("device", DEVICES)
def test_empty_logits(device):
    empty = torch.zeros(0, 2, device=device)
    got = generator_loss_and_grad([empty, empty], reduction="sum", return_stats=True)
    assert got.loss.item() == 0 and [g.shape for g in got.grads[0]] == [(0, 2)] * 2
    assert got.stats.fake_logit.isnan() and got.stats.nonfinite.item() == 0


def test_leaves_get_separate_gradients():
    """Later changes to .grad do not affect the result, and a second backward pass accumulates."""
    x, y = (torch.randn(6, 5).t().requires_grad_() for _ in range(2))
    result = discriminator_loss_and_grad(x, y)
    kept = [g.clone() for g in result.grads]
    result.backward(x, y)
    assert x.grad.stride() == x.stride()
    result.backward(x, y)
    x.grad.zero_()
    assert_same_bits(list(result.grads), kept)
    torch.testing.assert_close(y.grad, 2 * kept[1])
    torch.testing.assert_close(x.grad, torch.zeros_like(x))
    # A tensor on both sides gets both gradients.
    same = torch.randn(4, requires_grad=True)
    both = discriminator_loss_and_grad(same, same, loss="least_squares")
    both.backward(same, same)
    torch.testing.assert_close(same.grad, both.grads[0] + both.grads[1])


@pytest.mark.parametrize("kind", ["hook", "hook after accumulation", "hook of the node"])
def test_hooks_of_leaves_are_called(kind):
    x, y = (torch.randn(6, requires_grad=True) for _ in range(2))
    seen = []
    if kind == "hook":
        x.register_hook(lambda g: seen.append(g) or 2 * g)
    elif kind == "hook after accumulation":
        x.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    else:
        node = x.view_as(x).grad_fn.next_functions[0][0]
        node.register_prehook(lambda grads: seen.extend(grads))
    result = discriminator_loss_and_grad(x, y)
    result.backward(x, y)
    assert_same_bits(seen, [result.grads[0]])
    torch.testing.assert_close(x.grad, (2 if kind == "hook" else 1) * result.grads[0])


@pytest.mark.parametrize("kind", ["hook", "hook after accumulation"])
def test_hooks_of_a_leaf_get_its_accumulated_gradient(kind):
    seen = {}
    for way in ("ours", "torch"):
        torch.manual_seed(0)
        x = torch.randn(6, requires_grad=True)
        seen[way] = seen_here = []
        if kind == "hook":
            x.register_hook(seen_here.append)
        else:
            x.register_post_accumulate_grad_hook(lambda p, to=seen_here: to.append(p.grad.clone()))
        logits = (x, 2 * x)
        result = discriminator_loss_and_grad(*logits)
        if way == "ours":
            result.backward(*logits)
        else:
            torch.autograd.backward(logits, result.grads)
    assert_same_bits(seen["ours"], seen["torch"])


def test_a_failing_hook_does_not_change_leaves():
    x, y = (torch.randn(6, requires_grad=True) for _ in range(2))

    def fail(grad):
        raise ArithmeticError

    y.register_hook(fail)
    with pytest.raises(ArithmeticError):
        discriminator_loss_and_grad(x, y).backward(x, y)
    assert x.grad is None and y.grad is None


@pytest.mark.skipif(not hasattr(torch.Tensor, "grad_dtype"), reason="torch before 2.10")
@pytest.mark.parametrize("dtype", [torch.bfloat16, None])
def test_leaves_get_gradients_of_their_dtype(dtype):
    x, y = (torch.randn(6, requires_grad=True) for _ in range(2))
    x.grad_dtype = dtype
    result = discriminator_loss_and_grad(x, y)
    result.backward(x, y)
    assert torch.equal(x.grad, result.grads[0].to(dtype or torch.float32))
    assert x.grad.dtype == (dtype or torch.float32)


def test_a_freed_graph_does_not_change_leaves():
    x, y = torch.randn(6, requires_grad=True), torch.randn(6, requires_grad=True)
    logits = x.exp()
    result = discriminator_loss_and_grad(y, logits)
    logits.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        result.backward(y, logits)
    assert y.grad is None
