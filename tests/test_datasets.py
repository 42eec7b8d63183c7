"""The data sets: where the modes are, how often each is drawn, what the digits and the images of a folder look like."""

import math
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from pygan import datasets
from pygan.datasets import GRID, RING, ImageFolder, Mixture


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


@pytest.fixture
def folder(tmp_path):
    """Six images of one color each, named so that sorting them matters, and what is to be passed over."""

    def save(name, mode, color, size=(9, 9)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, color).save(path)

    save("b.png", "RGB", (255, 0, 0))
    save("a/2.png", "RGBA", (0, 255, 0, 255))
    save("a/1.JPG", "L", 255, (20, 9))
    save("a/deep/er/0.bmp", "RGB", (0, 0, 255))
    save("c.gif", "P", 0)
    save("d.tiff", "1", 1)
    save(".hidden/x.png", "RGB", 0)
    save("._b.png", "RGB", 0)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "e.png").mkdir()
    return tmp_path


def test_image_folder(folder):
    images = ImageFolder(folder, 8)
    names = [path.relative_to(folder).as_posix() for path in images.paths]
    assert names == ["a/1.JPG", "a/2.png", "a/deep/er/0.bmp", "b.png", "c.gif", "d.tiff"]
    assert len(images) == 6
    for image, color in zip(
        images, [(1, 1, 1), (-1, 1, -1), (-1, -1, 1), (1, -1, -1), (-1, -1, -1), (1, 1, 1)]
    ):
        assert image.dtype == torch.float32 and image.is_contiguous()
        expected = torch.tensor(color, dtype=torch.float32)[:, None, None].expand(3, 8, 8)
        torch.testing.assert_close(image, expected)
    assert ImageFolder(str(folder), 5, channels=1)[0].shape == (1, 5, 5)


def test_image_folder_crops_the_center(tmp_path):
    """30 x 10 with a bright middle third: only that is left. Lying on its side by its EXIF orientation: upright."""
    pixels = np.zeros((10, 30), dtype=np.uint8)
    pixels[:, 10:20] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    pixels = np.zeros((10, 10), dtype=np.uint8)
    pixels[0] = 255  # the first row, which orientation 6 turns into the last column
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=_orientation(6))
    turned, wide = ImageFolder(tmp_path, 10, channels=1)
    torch.testing.assert_close(wide, torch.ones(1, 10, 10))
    assert torch.equal(turned[0, :, -1], torch.ones(10))
    assert torch.equal(turned[0, :, :-1], -torch.ones(10, 9))


def _orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def test_image_folder_reads_sixteen_bits(tmp_path):
    Image.fromarray(np.full((8, 8), 128 * 256, dtype=np.uint16)).save(tmp_path / "deep.png")
    torch.testing.assert_close(ImageFolder(tmp_path, 8)[0], torch.full((3, 8, 8), 128 / 127.5 - 1))


def test_image_folder_in_workers(folder):
    images = ImageFolder(folder, 8)
    batches = list(DataLoader(images, batch_size=4, num_workers=2))
    assert torch.equal(torch.cat(batches), torch.stack(list(images)))
    assert pickle.loads(pickle.dumps(images)).paths == images.paths


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named(folder, workers):
    whole = folder / "b.png"
    whole.write_bytes(whole.read_bytes()[:40])
    loader = DataLoader(ImageFolder(folder, 8), batch_size=2, num_workers=workers)
    with pytest.raises(ValueError, match=r"ImageFolder: cannot read .*b\.png"):
        list(loader)


def test_pixels_without_a_range_are_refused(tmp_path):
    Image.new("F", (8, 8), 0.5).save(tmp_path / "float.tiff")
    with pytest.raises(ValueError, match=r'cannot read .*float\.tiff: pixels of mode "F"'):
        ImageFolder(tmp_path, 8)[0]


def test_image_folder_checks_its_arguments(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must be a folder, got .*nowhere"):
        ImageFolder(tmp_path / "nowhere", 8)
    with pytest.raises(ValueError, match="must have images in it, got none in"):
        ImageFolder(folder / "e.png", 8)
    for size in (0, -1, 2.5, True, (8, 8)):
        with pytest.raises(ValueError, match="size must be an int of at least 1"):
            ImageFolder(folder, size)
    for channels in (0, 2, 4, "RGB"):
        with pytest.raises(ValueError, match="channels must be 1 or 3"):
            ImageFolder(folder, 8, channels=channels)
