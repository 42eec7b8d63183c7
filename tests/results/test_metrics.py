"""The metrics against their protocols, closed forms, and scipy's matrix square root."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pygan import _stacked_coverage, datasets, metrics
from pygan.datasets import GRID, RING, Mixture
from pygan.metrics import frechet_distance, mode_coverage


def by_hand(samples, mixture):
    """The protocol as implemented by PacGAN's authors: a loop over the samples, then the entropy."""
    counts = [0] * len(mixture.centers)
    for sample in samples.double().tolist():
        distances = [math.dist(sample, center) / mixture.std for center in mixture.centers.tolist()]
        nearest = min(range(len(distances)), key=distances.__getitem__)
        if distances[nearest] < 3:
            counts[nearest] += 1
    good = sum(counts)
    entropy = -sum(c / good * math.log(c / good) for c in counts if c) if good else -math.inf
    return sum(c > 0 for c in counts), good / len(samples), math.log(len(counts)) - entropy


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 2**31),
    mixture=st.sampled_from([RING, GRID]),
    n=st.integers(1, 100),
    wide=st.floats(0.2, 6),
)
def test_mode_coverage_equals_the_protocol(seed, mixture, n, wide):
    generator = torch.Generator().manual_seed(seed)
    samples = Mixture(mixture.centers, wide * mixture.std).sample(n, generator=generator)
    modes, high_quality, reverse_kl = by_hand(samples, mixture)
    seen = mode_coverage(samples, mixture)
    assert seen == (modes, high_quality, pytest.approx(reverse_kl, abs=1e-12))


@pytest.mark.parametrize("mixture", [RING, GRID])
def test_the_mixture_itself_covers_all(mixture):
    """The share of high quality is 1 - exp(-9/2), by chi-square; the reverse KL has the mean (k - 1) / 2n."""
    k = len(mixture.centers)
    seen = [
        mode_coverage(mixture.sample(2500, generator=torch.Generator().manual_seed(seed)), mixture)
        for seed in range(40)
    ]
    assert {s.modes for s in seen} == {k}
    good = np.mean([s.high_quality for s in seen])
    assert good == pytest.approx(1 - math.exp(-4.5), abs=5 * math.sqrt(0.011 / 100_000))
    divergence = (k - 1) / 5000
    tolerance = 5 * divergence * math.sqrt(2 / (k - 1) / 40)
    assert np.mean([s.reverse_kl for s in seen]) == pytest.approx(divergence, abs=tolerance)


def test_mode_coverage_of_collapsed_and_invalid_samples():
    one = RING.centers[:1].expand(100, 2)
    assert mode_coverage(one, RING) == (1, 1.0, pytest.approx(math.log(8)))
    half = torch.cat([one, one + 0.5])
    assert mode_coverage(half, RING) == (1, 0.5, pytest.approx(math.log(8)))
    assert mode_coverage(RING.centers, RING) == (8, 1.0, 0.0)
    assert mode_coverage(torch.full((3, 2), math.nan), RING) == (0, 0.0, math.inf)
    assert mode_coverage(torch.full((3, 2), math.inf), RING) == (0, 0.0, math.inf)


def test_mode_coverage_uses_three_standard_deviations():
    center = Mixture(torch.zeros(1, 2), 1.0)
    inside, outside = torch.tensor([[2.999, 0.0]]), torch.tensor([[0.0, 3.0]])
    assert mode_coverage(inside, center).modes == 1
    assert mode_coverage(outside, center).modes == 0


def test_mode_coverage_accepts_other_dtypes_and_grad():
    samples = datasets.grid(200, generator=torch.Generator().manual_seed(0))
    expected = mode_coverage(samples, GRID)
    assert mode_coverage(samples.double(), GRID) == expected
    assert mode_coverage(samples.requires_grad_(), GRID) == expected
    assert [type(number) for number in expected] == [int, float, float]


def test_mode_coverage_checks_its_arguments():
    with pytest.raises(TypeError, match=r"must be a pygan\.datasets\.Mixture, got tuple"):
        mode_coverage(torch.zeros(3, 2), (RING.centers, RING.std))
    with pytest.raises(TypeError, match=r"samples must be a tensor \(n, 2\), got list"):
        mode_coverage([[0.0, 0.0]], RING)
    for shape in ((3,), (3, 3), (2, 3, 2)):
        with pytest.raises(ValueError, match=r"samples must be a real tensor \(n, 2\), got"):
            mode_coverage(torch.zeros(shape), RING)
    with pytest.raises(ValueError, match="at least 1 sample"):
        mode_coverage(torch.zeros(0, 2), RING)


@pytest.fixture(scope="module")
def coverage():
    return metrics.StackedDigits()


def test_the_digit_classifier_generalizes():
    """Fitted to one half of the digits, it is accurate on the other half."""
    images, labels = datasets.digits()
    images, labels = images.flatten(1).numpy(), labels.numpy()
    for first, second in (
        (slice(0, None, 2), slice(1, None, 2)),
        (slice(1, None, 2), slice(0, None, 2)),
    ):
        classifier = _stacked_coverage._digit_classifier().fit(images[first], labels[first])
        assert classifier.score(images[second], labels[second]) > 0.965


def test_stacked_digits_of_real_samples(coverage):
    images, labels = datasets.stacked_digits(26_000, generator=torch.Generator().manual_seed(0))
    assert (coverage.classify(images) == labels).float().mean() > 0.99
    modes, reverse_kl, sure = coverage(images)
    assert modes == 1000
    # Expected for a uniform distribution, which the digits nearly have.
    assert reverse_kl == pytest.approx(999 / 52_000, rel=0.15)
    assert sure == pytest.approx(coverage.real_sure, abs=0.02) and sure > 0.7


def test_stacked_digits_of_few_classes(coverage):
    """Two classes, with three of four samples in one: log 1000 minus the entropy of (3/4, 1/4)."""
    digits, labels = datasets.digits()
    seven, one = digits[labels == 7][0, 0], digits[labels == 1][0, 0]
    samples = torch.stack([torch.stack([seven, one, one])] * 3 + [torch.stack([one, one, seven])])
    assert coverage.classify(samples).tolist() == [711, 711, 711, 117]
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    modes, reverse_kl, _ = coverage(samples)
    assert (modes, reverse_kl) == (2, pytest.approx(math.log(1000) - entropy))


def test_stacked_digits_is_not_sure_of_noise(coverage):
    noise = torch.rand(2000, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert coverage(noise).sure < 0.01
    # Scrambled digits have the same amount of ink as digits.
    images, _ = datasets.stacked_digits(2000, generator=torch.Generator().manual_seed(1))
    order = torch.randperm(64, generator=torch.Generator().manual_seed(2))
    assert coverage(images.flatten(2)[..., order].reshape(images.shape)).sure < 0.05


def test_stacked_digits_checks_its_samples(coverage):
    samples = torch.linspace(-1, 1, 384).view(2, 3, 8, 8)
    for shape in ((3, 8, 8), (2, 1, 8, 8), (2, 3, 28, 28)):
        with pytest.raises(ValueError, match=r"samples must be a tensor \(n, 3, 8, 8\), got"):
            coverage(torch.zeros(shape))
    with pytest.raises(ValueError, match="got ndarray"):
        coverage.classify(np.zeros((2, 3, 8, 8)))
    with pytest.raises(ValueError, match="at least 1 sample"):
        coverage(torch.zeros(0, 3, 8, 8))
    with pytest.raises(ValueError, match="must be finite"):
        coverage(torch.full((2, 3, 8, 8), math.nan))
    for odd in (samples.to_sparse(), torch.nested.nested_tensor([*samples], layout=torch.jagged)):
        with pytest.raises(TypeError, match="StackedDigits: samples must be a dense tensor, got"):
            coverage(odd)
    with pytest.raises(TypeError, match="StackedDigits: samples must have values"):
        coverage(samples.to("meta"))
    assert coverage(torch._neg_view(samples)) == coverage(-samples)


def with_moments(mean, covariance, n, seed=0):
    """n samples with exactly this mean and covariance."""
    d = len(mean)
    normals = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    normals = normals - normals.mean(0)
    white = torch.linalg.qr(normals).Q * math.sqrt(n - 1)
    root = np.real(scipy.linalg.sqrtm(covariance.numpy()))
    return white @ torch.from_numpy(root) + mean


def test_frechet_in_one_dimension():
    """(mu - mu')² + (sigma - sigma')²."""
    a = with_moments(torch.tensor([1.0]), torch.tensor([[4.0]]).double(), 50)
    b = with_moments(torch.tensor([-2.0]), torch.tensor([[0.25]]).double(), 80)
    assert frechet_distance(a, b) == pytest.approx(9 + 1.5**2, rel=1e-12)


def test_frechet_of_commuting_covariances():
    """With common axes, it is the sum of the one-dimensional distances."""
    d = 6
    generator = torch.Generator().manual_seed(1)
    axes = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
    scales = torch.rand(2, d, generator=generator, dtype=torch.float64) * 3
    means = torch.randn(2, d, generator=generator, dtype=torch.float64)
    a, b = (
        with_moments(mean, axes @ (scale**2).diag() @ axes.T, 40)
        for mean, scale in zip(means, scales)
    )
    expected = ((means[0] - means[1]) ** 2).sum() + ((scales[0] - scales[1]) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-9)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), d=st.integers(1, 8), more=st.integers(2, 40))
def test_frechet_against_scipy(seed, d, more):
    """With full rank, the formula as computed by the FID's reference code."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(d + more, d, generator=generator, dtype=torch.float64)
    b = torch.randn(2 * d + more, d, generator=generator, dtype=torch.float64)
    b = b @ torch.randn(d, d, generator=generator, dtype=torch.float64) + 1
    cov_a, cov_b = (np.atleast_2d(np.cov(x.numpy(), rowvar=False)) for x in (a, b))
    root = np.real(scipy.linalg.sqrtm(cov_a @ cov_b))
    shift = ((a.mean(0) - b.mean(0)) ** 2).sum().item()
    expected = shift + np.trace(cov_a) + np.trace(cov_b) - 2 * np.trace(root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-9, abs=1e-12)


def test_frechet_without_full_rank():
    """Fewer samples than dimensions, or features in a plane, for which matrix square roots fail: the result is the
    distance in the subspace spanned by the samples."""
    generator = torch.Generator().manual_seed(2)
    a, b = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (20, 30))
    b = 2 * b + 1
    expected = frechet_distance(a, b)
    basis = torch.linalg.qr(torch.randn(500, 3, generator=generator, dtype=torch.float64)).Q
    assert frechet_distance(a @ basis.T, b @ basis.T) == pytest.approx(expected, rel=1e-12)
    # Equal features have distance 0, however few; constant features have the distance of their means.
    assert frechet_distance(a @ basis.T, a @ basis.T) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(torch.zeros(2, 9), torch.ones(5, 9)) == pytest.approx(9)
    # With orthogonal supports, the variances add up.
    apart = (
        torch.cat([a, torch.zeros_like(a)], 1),
        torch.cat([torch.zeros(30, 3), b - b.mean(0)], 1),
    )
    spreads = a.var(0).sum() + b.var(0).sum() + (a.mean(0) ** 2).sum()
    assert frechet_distance(*apart) == pytest.approx(spreads.item(), rel=1e-12)


def test_frechet_in_float64():
    """Half-precision features far from 0: their difference is not lost to the size of the mean."""
    a = (torch.randn(200, 4, generator=torch.Generator().manual_seed(3)) + 100).half()
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    exact = frechet_distance(a.double(), a.double() + 1e-3)
    assert exact == pytest.approx(4e-6, rel=1e-6)
    assert frechet_distance(a, a.double() + 1e-3) == exact


def test_frechet_checks_its_arguments():
    good = torch.zeros(3, 2)
    with pytest.raises(TypeError, match=r"a must be a tensor \(n, d\), got ndarray"):
        frechet_distance(np.zeros((3, 2)), good)
    with pytest.raises(ValueError, match=r"b must be a real tensor \(n, 2\), got \(3, 4\)"):
        frechet_distance(good, torch.zeros(3, 4))
    with pytest.raises(
        ValueError, match=r"a must be a real tensor \(n, d\), got \(3, 2\), torch.complex64"
    ):
        frechet_distance(good.to(torch.complex64), good)
    with pytest.raises(ValueError, match="b must hold at least 2 sample"):
        frechet_distance(good, good[:1])
    with pytest.raises(ValueError, match="a must be finite"):
        frechet_distance(good / 0, good)
