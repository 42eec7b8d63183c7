"""The losses under autograd: first and second derivatives, upstream gradients, retained graphs, overwritten inputs."""

import numpy as np
import pytest
import torch
from helpers import DEVICES, FLOATS, math_type
from helpers.losses import (
    CASES,
    PAIRED,
    REDUCTIONS,
    TO_MEAN,
    as_list,
    assert_same_bits,
    detached,
    logits_like,
    scales_like,
)
from helpers.truth import assert_as_accurate, reduced, ulp, wide
from torch.testing._internal.two_tensor import TwoTensor

from pygan import fused_losses, reference
from pygan.fused_losses import LOSSES, discriminator_loss, generator_loss

WEIGHTS = [0.7, -2.0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("listed", [False, True], ids=["tensors", "lists"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradcheck(case, reduction, listed, device):
    shapes = [(2, 1), (1,)] if listed else [(3, 2)]
    inputs = scales_like(case, shapes, torch.float64, device, 5)
    inputs[-1][0] = inputs[-1][0].t().contiguous().t()  # one of them strided
    if case.loss not in PAIRED:
        inputs[0][0] = inputs[0][0][:-1]  # a pairing loss, which needs equal shapes
    leaves = [x.requires_grad_() for x in as_list(inputs)]
    options = {"reduction": reduction, **({"weights": WEIGHTS} if listed else {})}

    def function(*tensors):
        parts = [list(tensors[i : i + len(shapes)]) for i in range(0, len(tensors), len(shapes))]
        return tuple(as_list(case.call(parts if listed else tensors, **options)))

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)
    # gradgradcheck differentiates the gradients with a graph, whatever they are.
    value = sum(t.sum() for t in function(*leaves))
    with_graph = torch.autograd.grad(value, leaves, create_graph=True)
    torch.testing.assert_close(with_graph, torch.autograd.grad(value, leaves))


def second_derivative(function, leaves, vectors, dtype):
    """d/dx of (gradient . v); zeros if the gradient is constant."""
    slopes = torch.autograd.grad(function(), leaves, create_graph=True)
    total = sum((g.to(dtype) * v.to(dtype)).sum() for g, v in zip(slopes, vectors, strict=True))
    if not total.requires_grad:
        return [torch.zeros_like(x) for x in leaves]
    return torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_second_derivatives_of_every_dtype(dtype, case, device):
    """Compared with the reference; at most twice eager's error."""
    inputs = logits_like(case.roles, (257,), dtype, device, 3)
    vectors = logits_like(case.roles, (257,), dtype, device, 4)
    upcast = math_type(dtype)

    leaves = [detached(x) for x in inputs]
    got = second_derivative(lambda: case.call(leaves), leaves, vectors, dtype)
    assert all(g.dtype == dtype for g in got)
    plain = [detached(x) for x in inputs]
    baseline = second_derivative(
        lambda: reduced(case.eager([x.to(upcast) for x in plain]), "mean")[0],
        plain,
        vectors,
        dtype,
    )
    doubles = [detached(x.double()) for x in inputs]
    want = second_derivative(lambda: case.call(doubles, reference), doubles, vectors, torch.float64)
    want = [[wide(w, dtype) for w in want]]
    assert_as_accurate([got], {"eager": [baseline]}, want, relative=False, what=str(case))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_third_derivatives_are_refused(reduction, case, device):
    leaves = [detached(x) for x in logits_like(case.roles, (5,), torch.float64, device, 1)]
    for inputs in (leaves, [[x] for x in leaves]):
        value = sum(t.sum() for t in as_list(case.call(inputs, reduction=reduction)))
        first = torch.autograd.grad(value, leaves, create_graph=True)
        square = sum(g.pow(2).sum() for g in first)
        second = torch.autograd.grad(square, leaves, create_graph=True)
        with pytest.raises(
            NotImplementedError, match=r"pygan\.fused_losses: derivatives must be .* got a third"
        ):
            torch.autograd.grad(sum(g.sum() for g in second), leaves)


@pytest.mark.parametrize("device", DEVICES)
def test_inputs_without_requires_grad_get_no_gradient(device):
    real = torch.randn(4, device=device, requires_grad=True)
    fake = torch.randn(4, device=device)
    discriminator_loss(real, fake).backward()
    assert real.grad is not None and fake.grad is None
    with torch.no_grad():
        assert not discriminator_loss(real, fake).requires_grad
    assert not discriminator_loss(real.detach(), fake).requires_grad
    value, stats = discriminator_loss(real, fake, return_stats=True)
    assert value.requires_grad and not any(field.requires_grad for field in stats)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("factor", [1.0, 3.0, 65536.0])
def test_upstream_gradient_is_a_factor(factor, create_graph, dtype, device):
    """Scaling the loss (GradScaler's 2^16) scales the gradients before they are rounded to 16 bits."""
    (x,) = logits_like(["fake"], (20_001,), dtype, device, 4)
    x -= 5
    leaf = x.clone().requires_grad_()
    value = generator_loss(leaf, loss="minimax") * factor
    (grad,) = torch.autograd.grad(value, leaf, create_graph=create_graph)
    want = wide(-torch.sigmoid(x.double()) * factor / x.numel(), dtype)
    error = np.abs(wide(grad, dtype) - want)
    # Rounded once from the computation dtype: half an ulp, plus a few of the computation (three products, a quotient
    # and exp: at most 8).
    own = 8 * ulp(want, math_type(dtype))
    assert (error <= ulp(want, dtype) / 2 + own).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_saved_by_the_forward_pass(loss, dtype):
    """On the CPU, those that need no additional pass."""
    leaves = [torch.randn(9).to(dtype).requires_grad_() for _ in range(2)]
    with torch.profiler.profile() as trace:
        discriminator_loss(*leaves, loss=loss).backward()
    names = {event.key for event in trace.key_averages() if event.key.startswith("pygan::")}
    recomputes = loss in TO_MEAN and dtype.itemsize == 2
    second = "pygan::gan_loss_backward" if recomputes else "pygan::gan_loss_and_grad"
    assert names == {"pygan::gan_loss", second}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("listed", [False, True], ids=["tensors", "lists"])
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_retained_graph_gives_the_same_gradients_again(dtype, case, listed, device):
    """The caller may overwrite the first gradient."""
    leaves = [detached(x) for x in logits_like(case.roles, (500,), dtype, device, 4)]
    # In a list the leaf itself, so that its gradient is not a sum.
    inputs = [[x, x.detach()[:9]] for x in leaves] if listed else leaves
    value = case.call(inputs)
    first = torch.autograd.grad(value, leaves, retain_graph=True)
    kept = [g.clone() for g in first]
    for g in first:
        g.zero_()
    assert_same_bits(kept, torch.autograd.grad(value, leaves, retain_graph=True))
    doubled = torch.autograd.grad(2 * value, leaves, retain_graph=True)
    if dtype != torch.float16:  # its subnormals are rounded more finely when doubled
        assert_same_bits([2 * g for g in kept], doubled)
    nothing = torch.autograd.grad(0 * value, leaves, retain_graph=True)
    assert not any(g.any() for g in nothing)
    (only_last,) = torch.autograd.grad(value, leaves[-1], retain_graph=True)
    assert torch.equal(only_last, kept[-1])
    value.backward()
    assert_same_bits(kept, [x.grad for x in leaves])
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        value.backward()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_logits_overwritten_before_backward(case, device):
    """Either the gradient for the original logits, or torch's error; never that for other logits."""
    leaves = [detached(x) for x in logits_like(case.roles, (50,), torch.float32, device, 1)]
    want = torch.autograd.grad(case.call(leaves), leaves)
    logits = [x * 1 for x in leaves]
    value = case.call([[x] for x in logits])
    with torch.no_grad():
        logits[-1].fill_(3.0)
    try:
        grads = torch.autograd.grad(value, leaves)
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)  # noqa: PT017
    else:
        torch.testing.assert_close(grads, want)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_lazily_negated_tensors(case):
    """Logits and incoming gradients that are views with the negative bit set."""
    z = torch.complex(torch.zeros(3), torch.tensor([2.0, -1.0, 0.5])).requires_grad_()
    lazy = [z.conj().imag, z.conj().imag * 1][: len(case.roles)]
    assert lazy[0].is_neg()
    plain = [x.detach().resolve_neg() for x in lazy]
    for inputs in (lazy, [[x] for x in lazy]):
        torch.testing.assert_close(case.call(inputs), case.call(plain, reference))
    leaves = [detached(x) for x in plain]
    incoming = torch._neg_view(torch.tensor(1.0))
    got = torch.autograd.grad(case.call(leaves), leaves, grad_outputs=incoming)
    want = torch.autograd.grad(-case.call(leaves, reference), leaves)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("plain_first", [True, False])
def test_tensor_subclasses(plain_first):
    plain, wrapped = torch.randn(4, requires_grad=True), TwoTensor(torch.ones(4), torch.ones(4))
    pair = (plain, wrapped) if plain_first else (wrapped, plain)
    value = discriminator_loss(*pair)
    assert isinstance(value, TwoTensor)
    want = reference.discriminator_loss(*(t if t is plain else t.a for t in pair))
    torch.testing.assert_close(value.a, want)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("learnt", [0, 1])
@pytest.mark.parametrize("loss", LOSSES)
def test_terms_require_grad_if_their_logits_do(loss, learnt, device):
    """As in plain PyTorch: the terms of the other side are constants."""
    logits = [torch.randn(5, device=device) for _ in range(2)]
    logits[learnt].requires_grad_()
    for detach_means in [False, True] if loss in TO_MEAN else [False]:
        options = {"loss": loss, "reduction": "none", "detach_means": detach_means}
        got, want = (
            module.discriminator_loss(*logits, **options) for module in (fused_losses, reference)
        )
        requires = [[x.requires_grad for x in as_list(terms)] for terms in (got, want)]
        assert requires[0] == requires[1]
        (gradient,) = torch.autograd.grad(sum(x.sum() for x in as_list(got)), logits[learnt])
        (expected,) = torch.autograd.grad(sum(x.sum() for x in as_list(want)), logits[learnt])
        torch.testing.assert_close(gradient, expected)
