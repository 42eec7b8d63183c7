"""The monitor's measures: the diversity of samples, the energy distance, and periods."""

import math

import numpy as np
import pytest
import torch
from helpers.sync import NoSync

from pygan.monitor.diversity import measures
from pygan.monitor.oscillation import swing


@pytest.fixture(autouse=True)
def one_thread(restore):
    torch.set_num_threads(1)


# --- diversity ---------------------------------------------------------------------------------------------------


def by_hand(real, fake):
    """The three measures of whole batches, computed pair by pair in float64."""
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
    found = measures(real, fake)
    torch.testing.assert_close(found[:3], by_hand(real, fake), rtol=1e-4, atol=1e-4)
    assert found[3:].isnan().all()


def test_diversity_counts_distinct_samples():
    modes = torch.eye(8).repeat(8, 1)  # eight equidistant points
    two = modes[torch.arange(64) % 2]
    real, fake, energy = measures(modes, two)[:3].tolist()
    assert real == pytest.approx(8, rel=0.02)
    assert fake == pytest.approx(2, rel=0.01)
    assert energy > 0.1
    real, fake = measures(torch.randn(64, 500), torch.ones(64, 500))[:2].tolist()
    assert (real, fake) == (pytest.approx(64, rel=0.05), pytest.approx(1))


def test_diversity_is_invariant_to_scale_and_shift():
    torch.manual_seed(1)
    real, fake = torch.randn(64, 2), torch.randn(64, 2) * 0.3
    moved = [100 * (x @ torch.tensor([[0.6, -0.8], [0.8, 0.6]])) + 1000 for x in (real, fake)]
    found, expected = measures(*moved)[:3], measures(real, fake)[:3]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("modes", "column"), [(1, 2), (3, 5)])
def test_energy_is_unbiased_at_zero(modes, column):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(32) % modes
    energies = []
    for _ in range(200):
        real, fake = torch.randn(2, 32, 5, generator=generator) + labels[:, None]
        energies.append(measures(real, fake, labels)[column])
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_measures_within_labels_equal_their_definition(dtype):
    torch.manual_seed(0)
    labels = torch.arange(12) % 3
    real, fake = torch.randn(2, 12, 4) + labels[:, None]
    real, fake = real.to(dtype), (0.3 * fake).to(dtype)
    x, y = real.double(), fake.double()
    width = torch.cdist(x, x).sum() / (12 * 11) / 4
    pairs = [(i, j) for i in range(12) for j in range(12) if i != j and i % 3 == j % 3]

    def mean(a, b, f=lambda d: d):
        return torch.stack([f((a[i] - b[j]).norm()) for i, j in pairs]).mean()

    expected = []
    for batch in (x, y):
        alike = mean(batch, batch, lambda d: torch.exp(-(d**2) / (2 * width**2)))
        expected.append(1 / (1 / 12 + 11 / 12 * alike))
    expected.append((2 * mean(x, y) - mean(x, x) - mean(y, y)) / (2 * mean(x, y)))
    found = measures(real, fake, labels)
    torch.testing.assert_close(found[3:], torch.stack(expected).float(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[:3], measures(real, fake)[:3])
    # With a single label, they are those of the batch.
    found = measures(real, fake, torch.ones(12, 2, dtype=torch.bool))
    torch.testing.assert_close(found[3:5], found[:2])


ONE_HOT = torch.eye(4)[torch.arange(64) % 4]


@pytest.mark.parametrize(
    "labels",
    [
        torch.arange(64) % 4,
        torch.arange(64)[:, None] % 4 + 2**60,
        ONE_HOT,
        ONE_HOT.bool(),
        ONE_HOT.half().view(64, 2, 2),
        {"row": torch.arange(64) % 2, "column": (torch.arange(64) // 2 % 2, None)},
    ],
)
def test_labels_of_any_form_are_compared(labels):
    torch.manual_seed(0)
    real, prototypes = torch.randn(64, 100), torch.randn(4, 100)
    fake = prototypes[torch.arange(64) % 4]
    with NoSync():
        numbers = measures(real, fake, labels)
    assert numbers[1] == pytest.approx(4, rel=0.1)
    assert numbers[3] == pytest.approx(64, rel=0.1)
    assert numbers[4] == pytest.approx(1)
    assert numbers[5] > 0.25


@pytest.mark.parametrize(
    "labels",
    [
        None,
        {},
        torch.arange(64),
        torch.randn(64, 3),
        torch.zeros(63),
        torch.zeros(64, 3, 32, 32),
        torch.zeros(64, device="meta"),
    ],
    ids=["none", "empty", "unique", "noisy", "of another size", "images", "on another device"],
)
def test_labels_that_cannot_be_compared_give_nan(labels):
    found = measures(torch.randn(64, 2), torch.randn(64, 2), labels)
    assert found[:3].isfinite().all()
    assert found[3:].isnan().all()


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
