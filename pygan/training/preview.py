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

from pygan.training.extras import extra

__all__ = ["checked_preview", "image_grid", "is_images", "write_png"]


def is_images(samples: Tensor) -> bool:
    """Whether `image_grid` takes them: (N, C, H, W) with 1 or 3 channels, or (N, H, W)."""
    return samples.dim() == 3 or (samples.dim() == 4 and samples.shape[1] in (1, 3))


def image_grid(samples: Tensor, *, padding: int = 2) -> NDArray[np.uint8]:
    """Images (N, C, H, W), C 1 or 3, or (N, H, W), with values in [-1, 1], in a grid as square as it gets: uint8
    (H', W', C). Values beyond the range are clipped; NaN is black."""
    images = samples.detach().float().cpu()
    if images.dim() == 3:
        images = images[:, None]
    n, channels, height, width = images.shape
    columns = math.isqrt(n - 1) + 1
    rows = -(-n // columns)
    pixels = images.nan_to_num(nan=-1.0).clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
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


def checked_preview(array: Any) -> NDArray[np.uint8]:
    """What the user's `preview` returned, if it is a picture."""
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
    """Write a picture (H, W, C), whole or not at all."""
    image = extra("PIL.Image", "a sample grid")
    unfinished = path.with_name(f".{path.name}.tmp")
    pixels = array[..., 0] if array.shape[2] == 1 else array
    image.fromarray(pixels).save(unfinished, format="PNG")
    os.replace(unfinished, path)
