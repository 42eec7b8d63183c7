"""Sample grids: generated images side by side, as an array and as a PNG file."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pygan.checkpoint import writing
from pygan.training.extras import extra

__all__ = ["WIDTH", "checked_preview", "grid_holds", "image_grid", "is_images", "write_png"]


WIDTH = 512
"""Minimum width in pixels of the grids of a run."""
_MAX_SIDE = 4096  # largest side of a grid, in pixels
_MAX_ASPECT = 16  # of a picture's longer side to its shorter one


def is_images(samples: Tensor) -> bool:
    """Whether `image_grid` accepts the samples: (N, C, H, W) with 1 or 3 channels, or (N, H, W), with no side a single
    pixel or more than 16 times as long as the other. Audio, (N, channels, T), does not qualify."""
    if not (samples.dim() == 3 or (samples.dim() == 4 and samples.shape[1] in (1, 3))):
        return False
    short, long = sorted(samples.shape[-2:])
    return short > 1 and long <= _MAX_ASPECT * short


def image_grid(samples: Tensor, *, padding: int = 2, width: int = 1) -> NDArray[np.uint8]:
    """Arrange images (N, C, H, W) with C 1 or 3, or (N, H, W), with values in [-1, 1], in a nearly square grid: uint8
    (H', W', C). Values outside the range are clipped; NaN becomes black. Small images are enlarged by an integer factor
    until the grid is `width` pixels wide. The grid has at most 4096 x 4096 pixels: images that do not fit are left out,
    and larger images are subsampled."""
    min_width = width
    images = samples.detach()
    if images.dim() == 3:
        images = images[:, None]
    every = -(-(max(images.shape[-2:]) + 2 * padding) // _MAX_SIDE)
    images = images[..., ::every, ::every]
    height, width = images.shape[-2:]
    columns = math.isqrt(len(images) - 1) + 1
    columns = min(columns, (_MAX_SIDE - padding) // (width + padding))
    rows = min(-(-len(images) // columns), (_MAX_SIDE - padding) // (height + padding))
    images = images[: rows * columns].float().cpu()
    channels = images.shape[1]
    pixels = images.nan_to_num(nan=-1.0).clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    factor = -(-(min_width - padding - columns * padding) // (columns * width))
    largest = (_MAX_SIDE - padding - rows * padding) // (rows * height)
    factor = max(1, min(factor, largest))
    pixels = pixels.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
    height, width = factor * height, factor * width
    grid = torch.zeros(
        channels,
        rows * (height + padding) + padding,
        columns * (width + padding) + padding,
        dtype=torch.uint8,
    )
    for i, image in enumerate(pixels):
        y = padding + (i // columns) * (height + padding)
        x = padding + (i % columns) * (width + padding)
        grid[:, y : y + height, x : x + width] = image
    return grid.permute(1, 2, 0).contiguous().numpy()


def grid_holds(height: int, width: int, *, padding: int = 2) -> int:
    """How many images of this size fit into a grid of `image_grid`; very large ones are subsampled."""
    each = [max(1, (_MAX_SIDE - padding) // (side + padding)) for side in (height, width)]
    return each[0] * each[1]


def checked_preview(array: Any) -> NDArray[np.uint8]:
    """Check that the result of the user's `preview` is a picture."""
    if (
        not isinstance(array, np.ndarray)
        or array.dtype != np.uint8
        or array.ndim != 3
        or array.shape[2] not in (1, 3)
    ):
        got = (
            f"{array.dtype} of shape {array.shape}"
            if isinstance(array, np.ndarray)
            else type(array).__name__
        )
        raise TypeError(
            f"pygan.fit: preview must return a uint8 array (H, W, C) with 1 or 3 channels, got {got}"
        )
    return array


def write_png(path: Path, array: NDArray[np.uint8]) -> None:
    """Write a picture (H, W, C) atomically."""
    image = extra("PIL.Image", "a sample grid")
    unfinished = path.with_name(f".{path.name}.tmp")
    pixels = array[..., 0] if array.shape[2] == 1 else array
    with writing(path):
        try:
            image.fromarray(pixels).save(unfinished, format="PNG")
            os.replace(unfinished, path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
