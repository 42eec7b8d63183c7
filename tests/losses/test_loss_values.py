"""The fused losses against pygan.reference: values and gradients for every size and dtype."""

import pytest
import torch
from helpers import DEVICES, FLOATS, math_type
from helpers.losses import (
    CASES,
    DISTINCT,
    DRAWS,
    PAIRED,
    REDUCTIONS,
    RELATIVISTIC,
    TO_MEAN,
    assert_same_bits,
    cases_of,
    compare,
    logits_like,
    results_of,
)

from pygan import _C, reference
from pygan.fused_losses import LOSSES, discriminator_loss

# Around the sizes of a strip of SIMD lanes (64), a block (1024) and a chunk of the sums (8192).
SIZES = [1, 3, 63, 64, 65, 1023, 1024, 1025, 8191, 8192, 8193, 100_003]
FEW_SIZES = [1, 65, 8193, 100_003]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", SIZES)
def test_values_and_gradients(size, dtype, loss, device):
    if dtype != torch.float32 and size not in FEW_SIZES:
        pytest.skip("every size for fp32, one of each kind for the others")
    for case in cases_of(loss):
        if size not in (1, 65) and case not in DISTINCT:
            continue
        draws = [logits_like(case.roles, (size,), dtype, device, seed) for seed in range(DRAWS)]
        if size < 10_000:
            compare(case, draws, REDUCTIONS if size < 1000 else ["mean", "none"])
        elif case.smoothing or not any(c.smoothing for c in cases_of(loss)):
            compare(case, draws, ["mean"])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", [c for c in CASES if c.loss not in PAIRED], ids=str)
def test_real_and_fake_may_differ_in_size_and_shape(case, device):
    if len(case.roles) == 1:
        pytest.skip("one tensor of logits")
    for shapes in (((7, 3), (1000,)), ((9001,), ()), ((2, 2), (1, 300, 5))):
        draws = [
            [
                logits_like([role], shape, torch.float32, device, seed)[0]
                for role, shape in zip(case.roles, shapes, strict=True)
            ]
            for seed in range(DRAWS)
        ]
        compare(case, draws)
        terms = case.call(draws[0], reduction="none")
        assert [t.shape for t in terms] == [torch.Size(shape) for shape in shapes]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_terms_have_the_shapes_of_the_logits(case, device):
    inputs = logits_like(case.roles, (4, 1, 3), torch.float16, device, 0)
    terms = case.call(inputs, reduction="none")
    alone = isinstance(terms, torch.Tensor)
    assert alone == (case.loss in PAIRED or len(case.roles) == 1)
    assert alone or isinstance(terms, tuple)
    for t in [terms] if alone else terms:
        assert t.shape == (4, 1, 3) and t.dtype == torch.float32


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_one_logit_expanded(dtype, loss, device):
    x = torch.tensor(0.7, dtype=dtype, device=device).expand(3, 1000)
    got = results_of(x, x, loss)
    plain = x.contiguous()
    assert_same_bits(got, results_of(plain, plain, loss))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", [c for c in CASES if c.loss not in TO_MEAN], ids=str)
def test_losses_of_empty_logits_are_zero(case, dtype, device):
    empty = [torch.zeros(0, 4, dtype=dtype, device=device, requires_grad=True) for _ in case.roles]
    value, stats = case.call(empty, reduction="sum", return_stats=True)
    assert value.item() == 0 and value.dtype == math_type(dtype)
    assert stats.nonfinite.item() == 0 and stats.fake_logit.isnan()
    for grad in torch.autograd.grad(value, empty):
        assert grad.shape == (0, 4) and grad.dtype == dtype
    terms = case.call(empty, reduction="none")
    assert {t.shape for t in (terms if isinstance(terms, tuple) else [terms])} == {(0, 4)}
    if len(case.roles) == 2 and case.loss not in RELATIVISTIC:
        full = torch.randn(5, device=device).to(dtype)
        value = case.call([empty[0], full], reduction="sum")
        only = case.call([empty[0], full], reduction="none")[1]
        torch.testing.assert_close(value, only.sum())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_slopes_at_the_kinks_of_the_hinge(dtype, device):
    """The slope of torch.relu: 0 for an argument of exactly 0, and the incoming gradient at NaN."""
    real = torch.tensor([0.5, 1.0, 1.5, float("nan")], dtype=dtype, device=device)
    leaves = [real.requires_grad_(), (-real.detach()).requires_grad_()]
    value = discriminator_loss(*leaves, loss="hinge", reduction="sum")
    slopes = torch.autograd.grad(value, leaves, create_graph=True)
    wide = [x.detach().double().requires_grad_() for x in leaves]
    baseline = (1 - wide[0]).relu().sum() + (1 + wide[1]).relu().sum()
    for got, want, sign in zip(slopes, torch.autograd.grad(baseline, wide), (-1, 1), strict=True):
        assert got[:3].tolist() == [sign, 0, 0]
        torch.testing.assert_close(got.double(), want, rtol=0, atol=0, equal_nan=True)
    for second in torch.autograd.grad(sum(s[:3].sum() for s in slopes), leaves):
        assert second[:3].tolist() == [0, 0, 0]


def test_reference_and_kernels_have_the_same_losses():
    assert tuple(name for name, *_ in _C.losses()) == reference.LOSSES
