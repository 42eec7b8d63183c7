"""The monitor's measures: the diversity of samples, the energy distance, and periods."""

import math

import numpy as np
import pytest
import torch

from pygan.monitor.diversity import measures
from pygan.monitor.oscillation import swing


@pytest.fixture(autouse=True)
def one_thread(restore):
    torch.set_num_threads(1)


# --- diversity ---------------------------------------------------------------------------------------------------


def by_hand(real, fake):
    """The three measures, computed pair by pair in float64."""
    x, y = real.double().flatten(1), fake.double().flatten(1)
    n, m = len(x), len(y)

    def distance(a, b):
        return torch.stack([torch.stack([(p - q).norm() for q in b]) for p in a])

    xx, yy, xy = distance(x, x), distance(y, y), distance(x, y)
    rm, fm = xx.sum() / (n * (n - 1)), yy.sum() / (m * (m - 1))
    numbers = [1 / torch.exp(-(w**2) / (2 * (rm / 4) ** 2)).mean() for w in (xx, yy)]
    return torch.stack([*numbers, (2 * xy.mean() - rm - fm) / (2 * xy.mean())]).float()


@pytest.mark.parametrize("shape", [(1,), (2,), (3, 4, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_diversity_equals_its_definition(shape, dtype):
    torch.manual_seed(0)
    real, fake = torch.randn(12, *shape).to(dtype), (0.5 * torch.randn(9, *shape) + 1).to(dtype)
    torch.testing.assert_close(measures(real, fake), by_hand(real, fake), rtol=1e-4, atol=1e-4)


def test_diversity_counts_distinct_samples():
    modes = torch.eye(8).repeat(8, 1)  # eight equidistant points
    two = modes[torch.arange(64) % 2]
    real, fake, energy = measures(modes, two).tolist()
    assert real == pytest.approx(8, rel=0.02)
    assert fake == pytest.approx(2, rel=0.01)
    assert energy > 0.1
    real, fake, _ = measures(torch.randn(64, 500), torch.ones(64, 500)).tolist()
    assert (real, fake) == (pytest.approx(64, rel=0.05), pytest.approx(1))


def test_diversity_is_invariant_to_scale_and_shift():
    torch.manual_seed(1)
    real, fake = torch.randn(64, 2), torch.randn(64, 2) * 0.3
    moved = [100 * (x @ torch.tensor([[0.6, -0.8], [0.8, 0.6]])) + 1000 for x in (real, fake)]
    torch.testing.assert_close(measures(*moved), measures(real, fake), rtol=1e-3, atol=1e-3)


def test_energy_is_unbiased_at_zero():
    generator = torch.Generator().manual_seed(0)
    energies = [measures(*torch.randn(2, 32, 5, generator=generator))[2] for _ in range(200)]
    mean, std = torch.stack(energies).mean(), torch.stack(energies).std()
    assert abs(mean) < 4 * std / math.sqrt(200)
    assert measures(torch.randn(16, 5), torch.randn(16, 5) + 1000)[2] > 0.99


@pytest.mark.parametrize(
    "batches",
    [
        (None, None),
        (torch.randn(7, 2), torch.randn(64, 2)),
        (torch.randn(64, 2), torch.randn(64, 3)),
        (torch.zeros(64, 2, dtype=torch.uint8), torch.randn(64, 2)),
        (torch.zeros(64, 2), torch.zeros(64, 2)),
        (torch.full((64, 2), math.nan), torch.randn(64, 2)),
    ],
)
def test_diversity_of_incomparable_batches_is_nan(batches):
    assert measures(*batches).isnan().all()


# --- oscillation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", [5.3, 7.5, 20.0, 31.0])
def test_swing_finds_the_period(period):
    t = np.arange(100.0)
    noise = np.random.default_rng(0).normal(size=100)
    found = swing(3 + 0.05 * t + 0.7 * np.sin(2 * np.pi * t / period) + 0.15 * noise)
    assert found.period == pytest.approx(period, rel=0.03)
    assert found.amplitude == pytest.approx(0.7, rel=0.1)
    assert found.strength > 0.75
    assert found.lasting == pytest.approx(1, abs=0.25)


def test_swing_detects_decay_but_no_period_in_noise():
    t = np.arange(100.0)
    assert swing(np.exp(-t / 40) * np.sin(t)).lasting < 0.3
    assert swing(np.ones(100)) is None
    assert swing(t) is None
    rng = np.random.default_rng(0)
    for walk in (False, True):
        strengths = []
        for _ in range(300):
            x = rng.normal(size=100)
            found = swing(np.cumsum(x) if walk else x)
            strengths.append(found.strength if found else 0.0)
        assert max(strengths) < 0.75
