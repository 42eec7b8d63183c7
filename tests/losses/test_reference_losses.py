"""pygan.reference's losses against independent sources: textbook formulas and exact results."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from pygan import reference
from pygan.fused_losses import LossStats

# No deadline, because the machine may be busy; the examples are the same in every run.
PROPERTY = settings(deadline=None, derandomize=True, max_examples=40)
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
RELATIVISTIC = tuple(loss for loss in reference.LOSSES if "relativistic" in loss)
SMOOTHED = ("non_saturating", "minimax", "least_squares")


def textbook(r, f, eps):
    """name -> (discriminator's loss, generator's loss), as in the papers, with other torch functions.

    A relativistic discriminator estimates how much more real one sample is than another: sigmoid(r - f). These are not
    the expressions of pygan.bench.baselines, which resemble the reference too much to check it."""

    def bce(logits, target):
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))

    def margin(x):
        return torch.maximum(torch.zeros_like(x), 1 - x).mean()

    def mse(x, target):
        return 0.5 * F.mse_loss(x, torch.full_like(x, target))

    cross_entropy = bce(r, 1 - eps) + bce(f, 0.0)
    return {
        "non_saturating": (cross_entropy, bce(f, 1.0)),
        "minimax": (cross_entropy, torch.log1p(-f.sigmoid()).mean()),
        "hinge": (
            -torch.minimum(torch.zeros_like(r), r - 1).mean()
            - torch.minimum(torch.zeros_like(f), -f - 1).mean(),
            -f.mean(),
        ),
        "clipped_hinge": (margin(r) + margin(-f), margin(f)),
        "least_squares": (
            0.5 * F.mse_loss(r, torch.full_like(r, 1 - eps)) + 0.5 * F.mse_loss(f, 0 * f),
            0.5 * F.mse_loss(f, torch.ones_like(f)),
        ),
        "wasserstein": (-(r.mean() - f.mean()), -f.mean()),
        "relativistic": (
            -torch.log(torch.sigmoid(r - f)).mean(),
            -torch.log(torch.sigmoid(f - r)).mean(),
        ),
        "relativistic_average": (
            -torch.log(torch.sigmoid(r - f.mean())).mean()
            - torch.log(1 - torch.sigmoid(f - r.mean())).mean(),
            -torch.log(torch.sigmoid(f - r.mean())).mean()
            - torch.log(1 - torch.sigmoid(r - f.mean())).mean(),
        ),
        "relativistic_hinge": (margin(r - f), margin(f - r)),
        "relativistic_average_hinge": (
            margin(r - f.mean()) + margin(r.mean() - f),
            margin(f - r.mean()) + margin(f.mean() - r),
        ),
        "relativistic_average_least_squares": (
            mse(r - f.mean(), 1.0) + mse(f - r.mean(), -1.0),
            mse(f - r.mean(), 1.0) + mse(r - f.mean(), -1.0),
        ),
    }


def generate(f, r, loss, **options):
    real = {"real_logits": r} if loss in RELATIVISTIC else {}
    return reference.generator_loss(f, loss=loss, **real, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_equal_textbook_formulas(dtype, smoothing):
    generator = torch.Generator().manual_seed(0)
    real, fake = (2 * torch.randn(5, 3, generator=generator).to(dtype) for _ in range(2))
    expected = textbook(real.double(), fake.double(), smoothing)
    assert tuple(expected) == reference.LOSSES
    for loss, (d, g) in expected.items():
        if not smoothing or loss in SMOOTHED:
            ours = reference.discriminator_loss(real, fake, loss=loss, label_smoothing=smoothing)
            torch.testing.assert_close(ours.double(), d, rtol=3e-7, atol=3e-7)
        ours = generate(fake, real, loss)
        torch.testing.assert_close(ours.double(), g, rtol=3e-7, atol=3e-7)
        assert ours.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("loss", reference.LOSSES)
def test_derivatives(loss, reduction, listed):
    if listed and reduction == "none":
        pytest.skip("the terms of lists are those of tensors: see test_reductions_and_scales")
    real = torch.tensor([[-30.0], [-2], [25]], dtype=torch.float64, requires_grad=True)
    fake = torch.tensor([[-25.0], [0], [30]], dtype=torch.float64, requires_grad=True)
    options = {"loss": loss, "reduction": reduction}
    smoothing = 0.1 if loss in SMOOTHED else 0.0
    if listed:
        options["weights"] = [0.5, -2.0]

    def flat(result):
        if isinstance(result, torch.Tensor):
            return (result,)
        return tuple(t for part in result for t in flat(part))

    def d(r, f):
        r, f = ([r, r[:1]], [f, f[:1]]) if listed else (r, f)
        return flat(reference.discriminator_loss(r, f, label_smoothing=smoothing, **options))

    def g(f, r):
        r, f = ([r, r[:1]], [f, f[:1]]) if listed else (r, f)
        return flat(generate(f, r, **options))

    for function, inputs in ((d, (real, fake)), (g, (fake, real))):
        if function is g and loss not in RELATIVISTIC:
            inputs = (fake, real.detach())
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)


INF = math.inf
# The generator's terms and slopes at these logits; at NaN both are NaN, except for linear slopes.
AT = [1e4, -1e4, INF, -INF]
EXTREME = {
    "non_saturating": ([0, 1e4, 0, INF], [0, -1, 0, -1], 0),
    "minimax": ([-1e4, 0, -INF, 0], [-1, 0, -1, 0], 0),
    "hinge": ([-1e4, 1e4, -INF, INF], [-1] * 4, 0),
    "least_squares": ([9999**2 / 2, 10001**2 / 2, INF, INF], [9999, -10001, INF, -INF], 1),
    "wasserstein": ([-1e4, 1e4, -INF, INF], [-1] * 4, 0),
    "relativistic": ([0, 1e4, 0, INF], [0, -1, 0, -1], 0),
}


@pytest.mark.parametrize("loss", EXTREME)
def test_extreme_logits(loss):
    fake = torch.tensor([*AT, math.nan], dtype=torch.float64, requires_grad=True)
    terms = generate(fake, torch.zeros_like(fake), loss, reduction="none")
    (grad,) = torch.autograd.grad(terms.sum(), fake, create_graph=True)
    expected, slope, curvature = EXTREME[loss]
    assert terms[:4].tolist() == expected
    assert terms[4].isnan()
    assert grad[:4].tolist() == slope
    assert grad[4].isnan() or (loss in ("hinge", "wasserstein") and grad[4] == -1)
    if grad.requires_grad:
        (second,) = torch.autograd.grad(grad[:4].sum(), fake)
        assert second[:4].tolist() == [curvature] * 4
    real = torch.zeros(5, dtype=torch.float64)
    stats = reference.discriminator_loss(real, fake, loss=loss, return_stats=True)[1]
    assert stats.nonfinite == 3
    assert stats.fake_logit.isnan()
    assert stats.fake_accuracy == 2 / 5


def test_slopes_of_the_hinge_equal_relu():
    real = torch.tensor([1.0, math.nan, 0.5], dtype=torch.float64, requires_grad=True)
    value = reference.discriminator_loss(real, real.detach(), loss="hinge", reduction="sum")
    assert torch.autograd.grad(value, real)[0].tolist() == [0, -1, -1]


@pytest.mark.parametrize("loss", RELATIVISTIC)
def test_relativistic_losses_depend_only_on_differences(loss):
    """And the generator's loss is the discriminator's with real and fake exchanged."""
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 9, dtype=torch.float64, generator=generator)
    value = reference.discriminator_loss(real, fake, loss=loss)
    torch.testing.assert_close(value, reference.discriminator_loss(real + 3, fake + 3, loss=loss))
    assert reference.generator_loss(real, real_logits=fake, loss=loss) == value
    # With one pair, the mean is the other logit, and the two kinds of losses agree up to the number of terms.
    one, other = real[:1], fake[:1]
    pair = reference.discriminator_loss(one, other, loss="relativistic")
    average = reference.discriminator_loss(one, other, loss="relativistic_average")
    torch.testing.assert_close(average, 2 * pair)


@PROPERTY
@given(
    counts=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6),
    error=st.floats(-3, 3),
)
def test_jsd_bound_equals_the_divergence_at_the_optimum(counts, error):
    """Two discrete distributions, given by the counts of each point: the optimal logit is log p / q."""
    p = torch.tensor([c[0] for c in counts], dtype=torch.float64)
    q = torch.tensor([c[1] for c in counts], dtype=torch.float64)
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    jsd = ((p * (p / middle).log()).sum() + (q * (q / middle).log()).sum()) / 2

    def bound(logits, smoothing=0.0):
        real = logits.repeat_interleave(torch.tensor([c[0] for c in counts]))
        fake = logits.repeat_interleave(torch.tensor([c[1] for c in counts]))
        loss, stats = reference.discriminator_loss(
            real, fake, label_smoothing=smoothing, return_stats=True
        )
        if not smoothing:
            torch.testing.assert_close(stats.jsd_bound, math.log(2) - loss / 2)
        return stats.jsd_bound

    best = (p / q).log()
    torch.testing.assert_close(bound(best), jsd, rtol=1e-9, atol=1e-12)
    assert bound(best + error) <= jsd + 1e-12
    # Smoothing changes the loss, but not the bound.
    assert torch.equal(bound(best + error, smoothing=0.3), bound(best + error))


def test_statistics_follow_their_definitions():
    real = torch.tensor([[2.0, -1.0], [0.0, 3.0]])
    fake = torch.tensor([-2.0, 0.0, 1.0])
    for loss in reference.LOSSES:
        if loss in ("relativistic", "relativistic_hinge"):
            continue
        for logits in ((real, fake), ([real[0], real[1]], [fake[:1], fake[1:]])):
            _, stats = reference.discriminator_loss(*logits, loss=loss, return_stats=True)
            assert isinstance(stats, LossStats)
            assert stats.real_logit == 1
            torch.testing.assert_close(stats.fake_logit, torch.tensor(-1 / 3))
            torch.testing.assert_close(stats.d_real, real.sigmoid().mean())
            torch.testing.assert_close(stats.d_fake, fake.sigmoid().mean())
            if loss == "least_squares" or "average" in loss:
                continue  # these do not decide by the sign of a logit
            # A logit of exactly 0 counts as neither real nor fake.
            assert stats.real_accuracy == 0.5
            torch.testing.assert_close(stats.fake_accuracy, torch.tensor(1 / 3))
            assert stats.real_sign == 0.25
            assert stats.nonfinite == 0
            assert stats.jsd_bound.isnan() == (loss not in ("non_saturating", "minimax"))
            assert all(value.shape == () and not value.requires_grad for value in stats)
    _, stats = reference.generator_loss(fake, return_stats=True)
    torch.testing.assert_close(stats.fake_logit, torch.tensor(-1 / 3))
    torch.testing.assert_close(stats.fake_accuracy, torch.tensor(1 / 3))
    for name in ("real_logit", "d_real", "real_accuracy", "real_sign", "jsd_bound"):
        assert getattr(stats, name).isnan()
    both = {"real_logits": real, "loss": "relativistic_average"}
    _, stats = reference.generator_loss(fake, **both, return_stats=True)
    assert stats.real_logit == 1 and stats.real_sign == 0.5 and stats.jsd_bound.isnan()


@pytest.mark.parametrize("loss", reference.LOSSES)
def test_reductions_and_scales(loss):
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 2, 3, dtype=torch.float64, generator=generator)
    weights = [0.5, -2.0]
    for function, first, second in (
        (lambda a, b, **kw: reference.discriminator_loss(a, b, loss=loss, **kw), real, fake),
        (lambda a, b, **kw: generate(a, b, loss, **kw), fake, real),
    ):
        terms = function(first, second, reduction="none")
        terms = terms if isinstance(terms, tuple) else (terms,)
        assert all(t.shape == first.shape for t in terms)
        mean, total = function(first, second), function(first, second, reduction="sum")
        torch.testing.assert_close(sum(t.mean() for t in terms), mean)
        torch.testing.assert_close(sum(t.sum() for t in terms), total)
        lists = [first, first[:1]], [second, second[:1]]
        parts = [mean, function(first[:1], second[:1])]
        torch.testing.assert_close(function(*lists), parts[0] + parts[1])
        torch.testing.assert_close(
            function(*lists, weights=weights), 0.5 * parts[0] - 2.0 * parts[1]
        )
        listed = function(*lists, weights=weights, reduction="none")
        listed = listed if isinstance(listed, tuple) else (listed,)
        for part, whole in zip(listed, terms, strict=True):
            assert isinstance(part, list) and [t.shape for t in part] == [(2, 3), (1, 3)]
            assert torch.equal(part[0], 0.5 * whole)


def test_sums_of_empty_tensors():
    empty = torch.zeros(0, 3)
    assert reference.generator_loss(empty, reduction="sum") == 0
    assert reference.discriminator_loss(empty, empty, loss="relativistic", reduction="sum") == 0
    assert reference.generator_loss([empty], reduction="none")[0].shape == (0, 3)
