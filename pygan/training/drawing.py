"""Pictures drawn with Pillow: captions of sample grids, scatter plots with axes, and digits as ink on paper."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pygan.datasets import Mixture
from pygan.training.extras import extra
from pygan.training.sample_grids import WIDTH, image_grid

__all__ = ["CaptionedPreview", "captioned", "ink", "scatter"]

Picture = NDArray[np.uint8]

_BLUE, _MODES, _AXES = (31, 119, 180), 200, 90
_LEFT, _BELOW, _BORDER = 34, 24, 10  # margins around the plot area, in pixels


@dataclass(frozen=True)
class CaptionedPreview:
    """A built-in preview; the run writes a caption with the step above it."""

    draw: Callable[[Tensor], Picture]
    note: str = ""
    """A description to add to the caption."""

    def __call__(self, samples: Tensor) -> Picture:
        return self.draw(samples)


def captioned(picture: Picture, text: str) -> Picture:
    """The picture (H, W, C) below a line of text, which is cut off if it is too long."""
    image = extra("PIL.Image", "a sample grid")
    strip = image.new("L", (picture.shape[1], 22), 255)
    _write(strip, (4, 3), text)
    line = np.repeat(np.asarray(strip)[..., None], picture.shape[2], 2)
    return np.concatenate([line, picture])


def ink(samples: Tensor) -> Picture:
    """Digits (N, 1, H, W) in [-1, 1], where 1 is ink, as dark strokes on paper, smoothly enlarged; each has a frame,
    because strokes touch the border."""
    images = torch.nn.functional.pad(samples.float(), (1, 1, 1, 1), value=-1.0)
    columns = math.isqrt(len(images) - 1) + 1
    factor = max(1, -(-WIDTH // (columns * images.shape[-1])))
    larger = torch.nn.functional.interpolate(images, scale_factor=factor, mode="bicubic")
    return 255 - image_grid(larger)


def scatter(samples: Tensor, mixture: Mixture, *, size: int = 480) -> Picture:
    """Scatter plot of points (n, 2), small blue squares, over the modes, gray discs of three standard deviations or at
    least 3 pixels, with axes: uint8, `size` pixels plus the margins. Points outside the picture are left out."""
    limit = 1.25 * float(mixture.centers.abs().max())
    area = _area(samples, mixture, limit, size)
    margins = ((_BORDER, _BELOW), (_LEFT, _BORDER), (0, 0))
    image = extra("PIL.Image", "a sample grid").fromarray(
        np.pad(area, margins, constant_values=255)
    )
    pen = extra("PIL.ImageDraw", "a sample grid").Draw(image)
    frame = (_LEFT - 1, _BORDER - 1, _LEFT + size, _BORDER + size)
    pen.rectangle(frame, outline=(_AXES,) * 3)
    for value in _ticks(limit):
        at = round((value + limit) / (2 * limit) * (size - 1))
        x, y = _LEFT + at, _BORDER + size - 1 - at
        pen.line((x, frame[3], x, frame[3] + 4), fill=(_AXES,) * 3)
        pen.line((frame[0] - 4, y, frame[0], y), fill=(_AXES,) * 3)
        _write(image, (x, frame[3] + 5), f"{value:g}", anchor="ma", size=12)
        _write(image, (frame[0] - 6, y), f"{value:g}", anchor="rm", size=12)
    return np.array(image)


def _area(samples: Tensor, mixture: Mixture, limit: float, size: int) -> Picture:
    """Modes and points, with the y axis pointing upwards: (size, size, 3)."""
    picture = np.full((size, size, 3), 255, dtype=np.uint8)
    axis = np.linspace(-limit, limit, size)
    x, y = axis[None, :], -axis[:, None]
    radius = max(3 * mixture.std, 3 * 2 * limit / size)
    for center in mixture.centers.tolist():
        picture[(x - center[0]) ** 2 + (y - center[1]) ** 2 <= radius**2] = _MODES
    points = samples.detach().float().cpu()
    inside = points[(points.abs() < limit).all(1)].numpy()  # excludes NaN
    column, row = np.rint((inside.T * [[1], [-1]] + limit) / (2 * limit) * (size - 1)).astype(int)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            picture[np.clip(row + dy, 0, size - 1), np.clip(column + dx, 0, size - 1)] = _BLUE
    return picture


def _ticks(limit: float) -> list[float]:
    """About five to nine round numbers between -limit and limit."""
    step = next(s for s in (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, limit) if limit / s <= 4)
    n = math.floor(limit / step)
    return [step * i for i in range(-n, n + 1)]


def _write(
    image: Any, at: tuple[int, int], text: str, *, anchor: str = "la", size: int = 14
) -> None:
    """Draw dark text."""
    pen, fonts = extra("PIL.ImageDraw", "a sample grid"), extra("PIL.ImageFont", "a sample grid")
    dark = 40 if image.mode == "L" else (40, 40, 40)
    try:
        pen.Draw(image).text(at, text, fill=dark, font=fonts.load_default(size), anchor=anchor)
    except (ImportError, ValueError):  # Pillow without FreeType: one small font, no anchors
        plain = text.encode("latin-1", "replace").decode("latin-1")
        pen.Draw(image).text(at, plain, fill=dark, font=fonts.load_default())
