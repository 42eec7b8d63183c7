"""The noise is normal and independent between elements, steps and seeds.

The seeds are fixed, so that a test passes always or never; each finding had a probability of 6e-5 to fail with a good
generator. `pytest -rP` shows the measurements, which docs/noise-quality.md contains.
"""

import math

import numpy as np
import pytest
import torch
from helpers.noise import z_of
from helpers.quality import (
    ALPHA,
    CHUNK,
    Cross,
    Sums,
    chi_square,
    failed_findings,
    poisson,
    table,
    tail_probability,
)

from pygan import NoiseStream, instance_noise

SEED = 20240229
HIGH = 2**32  # exercises the high word of a step, a seed or a counter


def check(findings):
    print(table(findings))
    assert failed_findings(findings) == []


@pytest.mark.parametrize("n", [10**7, pytest.param(10**8, marks=pytest.mark.slow)])
def test_one_stream_is_standard_normal(n):
    """Moments, Kolmogorov-Smirnov, chi^2, tails, lags, halves."""
    sums = Sums()
    for first in range(0, n, CHUNK):
        sums.add(z_of(min(CHUNK, n - first), SEED, offset=first))
    check(sums.findings())


@pytest.mark.slow
def test_far_tails():
    """Enough normals to detect if there were none beyond 6 sigma."""
    n, chunk = 6 * 10**9, 1 << 16  # fits into the cache
    far = (5, 5.5, 6, 6.5)
    counts = np.zeros(len(far), dtype=int)
    stream, zeros, z = NoiseStream(SEED), torch.zeros(chunk), torch.empty(chunk)
    for _ in range(n // chunk):
        instance_noise(zeros, 1.0, stream=stream, out=z)
        low, high = z.aminmax()
        if max(-low, high) > far[0]:
            counts += [int((z.abs() > t).sum()) for t in far]
    n = n // chunk * chunk
    assert poisson(0, n * tail_probability(6)) < ALPHA
    check(
        {
            f"beyond {t} sigma": (count, poisson(count, n * tail_probability(t)))
            for t, count in zip(far, counts)
        }
    )


def test_tail_probability():
    """That of normals, up to the limits of a grid of 2^32 radii, which ends at 6.76."""
    for t, share in ((4, 1e-7), (5, 1e-5), (6, 2e-3), (6.5, 2e-2)):
        assert tail_probability(t) == pytest.approx(math.erfc(t / math.sqrt(2)), rel=share)
    assert tail_probability(6.76) > 0 == tail_probability(6.77)


# The same elements at two positions of the stream.
PLACES = {
    "next step": {"step": 1},
    "step's high word": {"step": HIGH},
    "next seed": {"seed": SEED + 1},
    "seed's high word": {"seed": SEED + HIGH},
    "seed's words swapped": {"seed": SEED * HIGH},
    "seed as step": {"seed": 0, "step": SEED},
    "counter's high word": {"offset": 4 * HIGH},
    "further on": {"offset": 4 * CHUNK},
}


@pytest.mark.parametrize("place", PLACES)
def test_two_positions_are_independent(place):
    cross = Cross()
    for first in range(0, 4 * CHUNK, CHUNK):
        other = {"seed": SEED} | PLACES[place]
        other["offset"] = other.get("offset", 0) + first
        cross.add(z_of(CHUNK, SEED, offset=first), z_of(CHUNK, **other))
    check(cross.findings())


@pytest.mark.parametrize("along", ["steps", "seeds"])
def test_one_element_over_steps_or_seeds(along):
    """The noise of an element during a training, then of the next element; or at the start of many trainings."""
    count, n = CHUNK // 16, 64
    if along == "steps":
        stream, zeros = NoiseStream(SEED), torch.zeros(n)
        draws = [instance_noise(zeros, 1.0, stream=stream) for _ in range(count)]
    else:
        draws = [z_of(n, seed) for seed in range(SEED, SEED + count)]
    check(Sums().add(torch.stack(draws, 1).flatten()).findings())


# --- can these tests fail? -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good():
    """A good sequence, which is corrupted below."""
    return z_of(4 * CHUNK, SEED)


E = 8 / math.sqrt(4 * CHUNK)  # a bias of 8 standard errors


def edited(z, edit):
    z = z.clone()
    edit(z)
    return z


def uniform_sums(z):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(z.numel(), 12, generator=generator).sum(1) - 6


def too_even(z):
    """The exact quantiles, in the order of z."""
    ranks = z.argsort().argsort().double()
    return torch.special.ndtri((ranks + 0.5) / z.numel())


def radius_twice(z):
    """Both pairs of a counter have the radius of the first."""
    radius = z.view(-1, 2, 2).norm(dim=2, keepdim=True)
    return (z.view(-1, 2, 2) / radius * radius[:, :1]).flatten()


def sign_of_the_other_half(z):
    """Normal, and uncorrelated in all three features, but the sign of one half depends on the other."""
    first, second = z.view(-1, 2).unbind(1)
    sign = 1 - 2 * (8 * first.abs()).floor().remainder(2)
    return torch.stack((first, second.abs() * sign), 1).flatten()


BAD = {  # and the findings that must detect it
    "shifted": (lambda z: z + E, "mean"),
    "scaled": (lambda z: z * (1 + E), "variance - 1"),
    "skewed": (lambda z: z + E * (z * z - 1), "skewness"),
    "cubed": (lambda z: z + E * (z**3 - 3 * z), "excess kurtosis"),
    "twelve uniforms": (uniform_sums, "excess kurtosis"),
    "a gap at 0": (lambda z: z + 2 * E * (z > 0), "K-S distance"),
    "fp16": (lambda z: z.half().float(), "chi^2 / degrees"),
    "too even": (too_even, "chi^2 / degrees"),
    "cut tails": (lambda z: z.clamp(-3.9, 3.9), "beyond 4 sigma"),
    "10 outliers": (lambda z: edited(z, lambda z: z[:10].fill_(5.5)), "beyond 5 sigma"),
    "3 outliers": (lambda z: edited(z, lambda z: z[:3].fill_(-6.5)), "beyond 6 sigma"),
    "an infinity": (lambda z: edited(z, lambda z: z[:1].fill_(math.inf)), "mean"),
    "moving average": (lambda z: z + E * z.roll(1), "lags 1-64 of z, worst"),
    "every 65th again": (
        lambda z: edited(z, lambda z: z[65::65].copy_(z[1:-64:65])),
        "lags 1-64 of z, worst",
    ),
    "every 65th again, negative": (
        lambda z: edited(z, lambda z: z[65::65].copy_(-z[1:-64:65])),
        "lags 1-64 of z^2, worst",
    ),
    "radius twice": (radius_twice, "within counters of z^2, worst"),
    "halves equal in size": (
        lambda z: edited(z, lambda z: z[1::8].copy_(z[0::8].abs().copysign(z[1::8]))),
        "within counters of |z|, worst",
    ),
    "sign of the other half": (sign_of_the_other_half, "chi^2 / degrees, halves"),
}


def test_a_good_sequence_passes(good):
    assert failed_findings(Sums().add(good).findings()) == []


@pytest.mark.parametrize("name", BAD)
def test_a_bad_sequence_is_detected(good, name):
    spoil, by = BAD[name]
    with np.errstate(invalid="ignore"):  # an infinity
        assert by in failed_findings(Sums().add(spoil(good)).findings())


TWINS = {
    "copy": (lambda z: z, "z"),
    "copy, 63 places on": (lambda z: z.roll(63), "z"),
    "copy, 63 places back": (lambda z: z.roll(-63), "z"),
    "negative": (lambda z: -z, "|z|"),
    "every 100th": (lambda z: torch.where(torch.arange(z.numel()) % 100 == 0, z, z.flip(0)), "z"),
    "other signs": (lambda z: z.abs().copysign(z.flip(0)), "z^2"),
}


@pytest.mark.parametrize("name", TWINS)
def test_a_correlated_sequence_is_detected(good, name):
    spoil, feature = TWINS[name]
    found = Cross().add(good, spoil(good)).findings()
    assert f"cross-correlation of {feature}, worst" in failed_findings(found)


def test_p_values():
    """p-values at the limits of the tests."""
    assert poisson(0, 10) > ALPHA > poisson(0, 11) and poisson(28, 10) < ALPHA < poisson(24, 10)
    assert chi_square(np.full(100, 50))[1] < ALPHA  # too even
    assert chi_square(np.array([50, 51, 58, 43]))[1] > ALPHA > chi_square(np.array([100, 0]))[1]
