"""The data sets: where the modes are, how often each is drawn, what the digits look like."""

import math

import pytest
import torch

from pygan import datasets
from pygan.datasets import GRID, RING, Mixture


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_ring_is_pacgans():
    angles = torch.arange(8) * math.pi / 4
    torch.testing.assert_close(RING.centers, torch.stack([angles.cos(), angles.sin()], 1))
    assert RING.std == 0.01


def test_grid_is_pacgans():
    places = {(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)}
    assert {tuple(center) for center in GRID.centers.tolist()} == places
    assert len(GRID.centers) == 25 and GRID.std == 0.05


@pytest.mark.parametrize(("draw", "mixture"), [(datasets.ring, RING), (datasets.grid, GRID)])
def test_mixture_samples(draw, mixture):
    n, k = 100_000, len(mixture.centers)
    samples = draw(n, generator=seeded())
    assert samples.shape == (n, 2) and samples.dtype == torch.float32
    assert torch.equal(samples, draw(n, generator=seeded()))
    assert not torch.equal(samples, draw(n, generator=seeded(1)))

    nearest = torch.cdist(samples, mixture.centers).argmin(1)
    counts = torch.bincount(nearest, minlength=k)
    # Chi-square with k - 1 degrees of freedom, 6 standard deviations out; below it, shares would be dealt, not drawn.
    deviation = ((counts - n / k) ** 2 / (n / k)).sum().item() - (k - 1)
    assert abs(deviation) < 6 * math.sqrt(2 * (k - 1))
    offsets = (samples - mixture.centers[nearest]) / mixture.std
    assert offsets.mean(0).abs().max() < 6 / math.sqrt(n)
    torch.testing.assert_close(offsets.T.cov(), torch.eye(2), atol=0.03, rtol=0)


def test_mixtures_without_a_generator_follow_the_global_seed():
    torch.manual_seed(3)
    first = datasets.ring(5)
    torch.manual_seed(3)
    assert torch.equal(first, datasets.ring(5))


def test_a_mixture_of_ones_own():
    mixture = Mixture(torch.tensor([[1.0, 2.0, 3.0]]), 0.0)
    assert torch.equal(mixture.sample(4), mixture.centers.expand(4, 3))
    assert mixture.sample(0).shape == (0, 3)


def test_digits():
    images, labels = datasets.digits()
    assert images.shape == (1797, 1, 8, 8) and images.dtype == torch.float32
    assert (images.min(), images.max()) == (-1, 1)
    assert labels.shape == (1797,) and labels.dtype == torch.int64
    # The counts that scikit-learn's documentation gives (about 180 each).
    assert torch.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    # A zero is hollow, a one is not.
    middle = images[:, 0, 3:5, 3:5].mean((1, 2))
    assert middle[labels == 0].mean() < -0.5 < 0.5 < middle[labels == 1].mean()


def test_stacked_digits():
    n = 20_000
    images, labels = datasets.stacked_digits(n, generator=seeded())
    assert images.shape == (n, 3, 8, 8) and images.dtype == torch.float32
    assert labels.shape == (n,) and labels.dtype == torch.int64
    again = datasets.stacked_digits(n, generator=seeded())
    assert torch.equal(images, again[0]) and torch.equal(labels, again[1])

    digits, classes = datasets.digits()
    known = {image.numpy().tobytes(): int(label) for image, label in zip(digits, classes)}
    for image, label in zip(images[:500], labels[:500]):
        assert label == int("".join(str(known[channel.numpy().tobytes()]) for channel in image))
    # Independent channels: all 1,000 classes, of 20 samples each on average, and no class of three equal digits more.
    assert labels.unique().numel() == 1000
    equal = (labels % 111 == 0).float().mean()
    assert abs(equal - 0.01) < 6 * math.sqrt(0.01 * 0.99 / n)


@pytest.mark.parametrize("draw", [datasets.ring, datasets.grid, datasets.stacked_digits])
@pytest.mark.parametrize("n", [-1, 2.0, True, "3"])
def test_counts_are_checked(draw, n):
    with pytest.raises(ValueError, match="n must be an int of at least 0"):
        draw(n)
