"""What `pygan train --data ...` trains on: the samples, how to judge generated ones, and how to show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pygan import datasets, metrics
from pygan.training.config import ConfigError, DataTable

__all__ = ["Source", "source"]

_MIXTURES = {"ring": datasets.RING, "grid": datasets.GRID}


@dataclass(frozen=True)
class Source:
    """Data, and what belongs to it."""

    data: Any
    """For `pygan.fit`."""
    shape: tuple[int, ...]
    """Of a sample."""
    evaluate: Callable[[Callable[[int], Tensor]], dict[str, float]] | None = None
    preview: Callable[[Tensor], NDArray[np.uint8]] | None = None


def source(table: DataTable, seed: int) -> Source:
    """What the [data] table names; mixtures and stacked digits are drawn with the seed."""
    generator = torch.Generator().manual_seed(seed)
    if table.name in _MIXTURES:
        mixture, scale = _MIXTURES[table.name], table.scale
        return Source(
            mixture.sample(table.samples, generator=generator) * scale,
            (2,),
            # PacGAN's protocol: 2,500 samples.
            lambda sample: metrics.mode_coverage(sample(2500) / scale, mixture)._asdict(),
            lambda samples: scatter(samples / scale, mixture),
        )
    if table.name == "digits":
        return Source(datasets.digits()[0], (1, 8, 8))
    if table.name == "stacked-digits":
        images, _ = datasets.stacked_digits(table.samples, generator=generator)
        judge = metrics.StackedDigits()
        # The protocol of Stacked MNIST: 26,000 samples.
        return Source(images, (3, 8, 8), lambda sample: judge(sample(26_000))._asdict())
    if not Path(table.name).is_dir():
        names = ", ".join((*_MIXTURES, "digits", "stacked-digits"))
        raise ConfigError(
            f"pygan train: [data] name must be {names}, or a folder of images, got {table.name!r}"
        )
    folder = datasets.ImageFolder(
        table.name, table.size, channels=table.channels, background=table.background
    )
    return Source(folder, (table.channels, table.size, table.size))


def scatter(samples: Tensor, mixture: datasets.Mixture, *, size: int = 384) -> NDArray[np.uint8]:
    """Points (n, 2) as small blue squares, and the modes as gray discs of three standard deviations, but at least 3
    pixels: (size, size, 3), y upwards. Points outside of the picture are left out."""
    limit = 1.25 * float(mixture.centers.abs().max())
    picture = np.full((size, size, 3), 255, dtype=np.uint8)
    axis = np.linspace(-limit, limit, size)
    x, y = axis[None, :], -axis[:, None]
    radius = max(3 * mixture.std, 3 * 2 * limit / size)
    for center in mixture.centers.tolist():
        picture[(x - center[0]) ** 2 + (y - center[1]) ** 2 <= radius**2] = 200
    points = samples.detach().float().cpu()
    inside = points[(points.abs() < limit).all(1)].numpy()  # and not NaN
    column, row = np.rint((inside.T * [[1], [-1]] + limit) / (2 * limit) * (size - 1)).astype(int)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            picture[np.clip(row + dy, 0, size - 1), np.clip(column + dx, 0, size - 1)] = (
                31,
                119,
                180,
            )
    return picture
