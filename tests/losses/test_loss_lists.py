"""Lists of logits, one tensor per scale of a multi-scale discriminator, and their weights."""

import math

import pytest
import torch
from helpers import DEVICES, FLOATS, math_type
from helpers.losses import (
    CASES,
    DISTINCT,
    DRAWS,
    PAIRED,
    REDUCTIONS,
    TO_MEAN,
    as_list,
    assert_same_bits,
    cases_of,
    compare,
    detached,
    logits_like,
    results_of,
    scales_like,
)

from pygan import reference
from pygan.fused_losses import LOSSES, LossStats, discriminator_loss, generator_loss

# A scalar, odd patches, more than a block: scales of different sizes and shapes.
SHAPES = [(), (5, 13), (257,), (2, 1, 3)]
WEIGHTS = {"all 1": None, "positive": [0.7, 1.0, 0.25, 3.0], "mixed": [0.7, 0.0, -0.25, 2]}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_values_and_gradients_of_lists(dtype, loss, weights, device):
    if weights == "positive" and dtype != torch.float32:
        pytest.skip("the other weights say as much")
    for case in cases_of(loss):
        if case not in DISTINCT:
            continue
        draws = [scales_like(case, SHAPES, dtype, device, 10 * k) for k in range(DRAWS)]
        compare(case, draws, weights=WEIGHTS[weights])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", [c for c in CASES if len(c.roles) == 2], ids=str)
def test_scales_of_real_and_fake_may_differ_in_shape(case, device):
    if case.loss in PAIRED:
        pytest.skip("which pairs, and needs equal shapes")
    shapes = ([(3, 2), (700,)], [(5,), (1, 300)])
    draws = []
    for seed in range(DRAWS):
        draws.append(
            [
                [
                    logits_like([role], s, torch.float32, device, seed + k)[0]
                    for k, s in enumerate(of)
                ]
                for role, of in zip(case.roles, shapes, strict=True)
            ]
        )
    compare(case, draws, weights=[2.0, 0.3])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_list_of_one_equals_its_tensor(loss, dtype, device):
    real, fake = logits_like(["real", "fake"], (9001,), dtype, device, 0)
    assert_same_bits(results_of(real, fake, loss), results_of([real], [fake], loss))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_single_weight_applies_to_every_scale(reduction, case, device):
    inputs = scales_like(case, SHAPES, torch.float32, device, 0)
    one, each = (
        case.call([detached(x) for x in inputs], reduction=reduction, weights=weights)
        for weights in (-0.5, [-0.5] * 4)
    )
    assert_same_bits(flat(one), flat(each))
    logits = [x[2] for x in inputs]  # a single scale, without lists
    want = case.call([detached([x]) for x in logits], reduction=reduction, weights=[3.0])
    assert_same_bits(flat(case.call(logits, reduction=reduction, weights=3)), flat(want))


def flat(result):
    if isinstance(result, torch.Tensor):
        return [result]
    return [x for part in result for x in flat(part)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_weights_of_one_have_no_effect(reduction, case, device):
    inputs = scales_like(case, SHAPES, torch.float32, device, 0)
    results = []
    for options in ({}, {"weights": [1.0] * 4}, {"weights": (1, 1, 1, 1)}):
        leaves = [detached(x) for x in inputs]
        values = as_list(case.call(leaves, reduction=reduction, **options))
        grads = torch.autograd.grad(sum(t.sum() for t in values), as_list(leaves))
        results.append([*(t.detach() for t in values), *grads])
    assert_same_bits(results[0], results[1])
    assert_same_bits(results[0], results[2])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_lists_are_not_modified(case):
    inputs = scales_like(case, SHAPES, torch.float32, "cpu", 0)
    kept = [list(x) for x in inputs]
    for reduction in REDUCTIONS:
        case.call(inputs, reduction=reduction)
    assert all(a is b for x, y in zip(inputs, kept, strict=True) for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("listed", [1, 4])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_terms_of_lists_are_lists(case, listed, device):
    inputs = scales_like(case, SHAPES[-listed:], torch.bfloat16, device, 0)
    terms = case.call(inputs, reduction="none")
    alone = case.loss in PAIRED or len(case.roles) == 1
    assert isinstance(terms, list if alone else tuple) and (alone or len(terms) == 2)
    for part in [terms] if alone else terms:
        assert isinstance(part, list)
        assert [t.shape for t in part] == [torch.Size(s) for s in SHAPES[-listed:]]
        assert all(t.dtype == torch.float32 for t in part)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_weight_of_zero_follows_ieee(case, device):
    """It removes finite logits, and turns infinite terms into NaN, like a product."""
    inputs = scales_like(case, [(5,), (3, 3)], torch.float32, device, 0)
    full = case.call(inputs, weights=[1.5, 0.0])
    only = case.call([x[:1] for x in inputs], weights=[1.5])
    assert torch.equal(full, only)
    for bad in (math.inf, -math.inf, math.nan):
        for x in inputs:
            x[1][0, 0] = bad
        for reduction in REDUCTIONS:
            leaves = [detached(x) for x in inputs]
            wide = [detached([t.double() for t in x]) for x in inputs]
            got = as_list(case.call(leaves, reduction=reduction, weights=[1.5, 0.0]))
            want = as_list(case.call(wide, reference, reduction=reduction, weights=[1.5, 0.0]))
            for g, w in zip(got, want, strict=True):
                assert torch.equal(g.isnan(), w.isnan()) and torch.equal(g.isinf(), w.isinf())
            pairs = ((got, leaves), (want, wide))
            grads = [torch.autograd.grad(sum(t.sum() for t in v), as_list(x)) for v, x in pairs]
            for g, w in zip(*grads, strict=True):
                assert torch.equal(g.isnan(), w.isnan()) and torch.equal(g.isinf(), w.isinf())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_empty_tensors_in_a_list(dtype, device):
    full = torch.randn(5, device=device).to(dtype)
    for case in CASES:
        if case.loss in TO_MEAN:
            continue
        leaves = [[detached(full), full.new_zeros(0, 3).requires_grad_()] for _ in case.roles]
        value, stats = case.call(leaves, reduction="sum", return_stats=True)
        plain, plain_stats = case.call([x[0] for x in leaves], reduction="sum", return_stats=True)
        assert_same_bits([value.detach(), *stats], [plain.detach(), *plain_stats])
        grads = torch.autograd.grad(value, as_list(leaves))
        assert [g.numel() for g in grads] == [5, 0] * len(case.roles)
        nothing = case.call([[x[1]] for x in leaves], reduction="sum")
        assert nothing.item() == 0 and nothing.dtype == math_type(dtype)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", LOSSES)
def test_lists_in_which_some_tensors_require_grad(loss, device):
    real, fake = (list(torch.randn(2, 4, device=device)) for _ in range(2))
    every = [x.clone().requires_grad_() for x in (*real, *fake)]
    discriminator_loss(every[:2], every[2:], loss=loss).backward()
    real[1].requires_grad_()
    fake[0].requires_grad_()
    value = discriminator_loss(real, fake, loss=loss)
    value.backward()
    assert real[0].grad is None and fake[1].grad is None
    assert torch.equal(real[1].grad, every[1].grad) and torch.equal(fake[0].grad, every[2].grad)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_a_tensor_that_occurs_several_times(reduction, device):
    x = torch.randn(6, device=device, requires_grad=True)
    value = sum(t.sum() for t in as_list(generator_loss([x, x, x], reduction=reduction)))
    (grad,) = torch.autograd.grad(value, x)
    (once,) = torch.autograd.grad(generator_loss(x, reduction="sum"), x)
    torch.testing.assert_close(grad, 3 * once)
    value = discriminator_loss([x, x], [x, x], loss="relativistic_average")
    torch.testing.assert_close(value, 2 * discriminator_loss(x, x, loss="relativistic_average"))
    (grad,) = torch.autograd.grad(value, x)
    wide = x.detach().double().requires_grad_()
    want = reference.discriminator_loss(wide, wide, loss="relativistic_average")
    torch.testing.assert_close(grad, 2 * torch.autograd.grad(want, wide)[0].float())


@pytest.mark.parametrize("device", DEVICES)
def test_statistics_of_lists_cover_all_logits(device):
    """As for a single tensor with all logits, whatever the weights of the scales."""
    case = CASES[0]
    real, fake = scales_like(case, SHAPES, torch.float64, device, 0)
    _, got = discriminator_loss(real, fake, weights=[0.0, 2.0, -1.0, 5.0], return_stats=True)
    real, fake = (torch.cat([t.flatten() for t in x]) for x in (real, fake))
    _, want = discriminator_loss(real, fake, return_stats=True)
    for field, g, w in zip(LossStats._fields, got, want, strict=True):
        # The same sums in another order.
        torch.testing.assert_close(g, w, rtol=1e4 * 2.0**-53, atol=1e4 * 2.0**-53, msg=field)
