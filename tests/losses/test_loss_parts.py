"""The loss of each side and scale, from the same pass as the loss."""

import pytest
import torch
from helpers import DEVICES, FLOATS, math_type
from helpers.losses import CASES, PAIRED, as_list, scales_like
from torch.profiler import ProfilerActivity, profile

from pygan import reference
from pygan.fused_losses import (
    LossParts,
    discriminator_loss,
    discriminator_loss_and_grad,
    fake_loss,
    generator_loss,
    real_loss,
)

WEIGHTS = [0.5, 0.0, -2.0]


def expected(case, inputs):
    """Side -> the mean of each scale's terms."""
    terms = case.call([[x.double() for x in side] for side in inputs], reference, reduction="none")
    sides = [terms] if isinstance(terms[0], torch.Tensor) else terms
    return {
        role: torch.stack([t.mean() for t in side])
        for role, side in zip(case.roles, sides, strict=False)
    }


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("listed", [False, True], ids=["tensors", "lists"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_parts_equal_the_losses_of_sides_and_scales(case, dtype, listed, device):
    shapes = [(9000,), (3, 50), ()] if listed else [(700,)]
    inputs = scales_like(case, shapes, dtype, device, 1)
    given = [[x.requires_grad_() for x in side] for side in inputs]
    given = given if listed else [side[0] for side in given]
    options = {"weights": WEIGHTS} if listed else {"weights": 3.0}
    value, stats, parts = case.call(given, return_stats=True, return_parts=True, **options)
    assert isinstance(parts, LossParts)
    want = expected(case, inputs)
    assert (parts.real is not None) == ("real" in want)
    assert (parts.fake is not None) == ("fake" in want)
    for side, w in want.items():
        got = getattr(parts, side)
        assert got.dtype == math_type(dtype) and not got.requires_grad
        assert got.shape == ((len(shapes),) if listed else ())
        torch.testing.assert_close(got.double(), w if listed else w[0], rtol=1e-6, atol=1e-7)
    # Nothing else changes: on the CPU, loss, statistics and gradients are bitwise equal.
    alone, its_stats = case.call(given, return_stats=True, **options)
    only_parts = case.call(given, return_parts=True, **options)
    same = torch.equal if device == "cpu" else torch.allclose
    assert same(value, alone) and same(value, only_parts[0])
    for a, b in zip(stats, its_stats, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    leaves = as_list(given)
    for a, b in zip(
        *(torch.autograd.grad(x, leaves) for x in (value, alone)),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_parts_without_autograd(case):
    inputs = scales_like(case, [(40,), (7,)], torch.float32, "cpu", 2)
    result = case.call(inputs, suffix="_and_grad", return_parts=True)
    _, parts = case.call(inputs, return_parts=True)
    for got, want in zip(result.parts, parts, strict=True):
        assert (got is None and want is None) or torch.equal(got, want)
    assert case.call(inputs, suffix="_and_grad").parts is None


def test_parts_add_up_to_the_loss():
    r, f = torch.randn(50), torch.randn(20)
    value, parts = discriminator_loss(r, f, return_parts=True)
    torch.testing.assert_close(parts.real + parts.fake, value)
    torch.testing.assert_close(real_loss(r, return_parts=True), (parts.real, (parts.real, None)))
    torch.testing.assert_close(fake_loss(f, return_parts=True), (parts.fake, (None, parts.fake)))


def test_an_infinite_part_does_not_affect_the_others():
    """For example the part of a diverged scale, whose weight may be 0."""
    bad = torch.tensor([float("inf"), 1.0])
    good = torch.tensor([1.0, 2.0])
    _, parts = generator_loss(
        [bad, good], loss="wasserstein", weights=[0.0, 1.0], return_parts=True
    )
    assert parts.fake.tolist() == [-float("inf"), -1.5]


def test_parts_need_no_additional_pass():
    r = [torch.randn(16, n).requires_grad_() for n in (128, 65, 33)]
    f = [torch.randn(16, n).requires_grad_() for n in (128, 65, 33)]
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        discriminator_loss_and_grad(
            r, f, loss="least_squares", return_parts=True, return_stats=True
        )
    names = [e.name for e in seen.events()]
    assert sum(name.startswith("pygan::") for name in names) == 1
    assert not {"aten::mean", "aten::sum", "aten::stack", "aten::_local_scalar_dense"} & set(names)


def test_parts_of_unreduced_terms_are_refused():
    x = torch.randn(3)
    with pytest.raises(ValueError, match="return_parts must be False for reduction="):
        discriminator_loss(x, x, reduction="none", return_parts=True)


def test_parts_in_compiled_code():
    def both(r, f):
        value, parts = discriminator_loss([r, r], [f, f], loss="hinge", return_parts=True)
        return value, parts.real, parts.fake

    r, f = torch.randn(8), torch.randn(8)
    compiled = torch.compile(both, backend="aot_eager", fullgraph=True)
    for got, want in zip(compiled(r, f), both(r, f), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("loss", PAIRED)
def test_pairs_have_one_part(loss):
    x, y = torch.randn(6), torch.randn(6)
    value, parts = discriminator_loss(x, y, loss=loss, return_parts=True)
    assert torch.equal(parts.real, value) and parts.fake is None
    value, parts = generator_loss(y, real_logits=x, loss=loss, return_parts=True)
    assert torch.equal(parts.fake, value) and parts.real is None
