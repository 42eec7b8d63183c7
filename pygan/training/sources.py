"""What `pygan train --data ...` trains on: the samples, how to judge generated ones, and how to show them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pygan import datasets, metrics
from pygan.training.choices import item_size
from pygan.training.config import ConfigError, DataTable
from pygan.training.drawing import Drawn, ink, scatter

__all__ = ["Source", "source"]

_MIXTURES = {"ring": datasets.RING, "grid": datasets.GRID}


@dataclass(frozen=True)
class Source:
    """Data, and what belongs to it."""

    data: Any
    """For `pygan.fit`."""
    shape: tuple[int, ...]
    """Of a sample."""
    table: DataTable
    """What was asked for, with what was left open filled in."""
    evaluate: Callable[[Callable[[int], Tensor]], dict[str, float]] | None = None
    preview: Drawn | None = None
    classes: Sequence[str] = ()
    """What the labels 0, 1, ... are called, if the data have any."""
    found: str | None = None
    """What a folder turned out to hold, and what is made of it."""


def source(table: DataTable, seed: int) -> Source:
    """What the [data] table names; mixtures and stacked digits are drawn with the seed."""
    generator = torch.Generator().manual_seed(seed)
    if table.name in _MIXTURES:
        mixture, scale = _MIXTURES[table.name], table.scale
        return Source(
            mixture.sample(table.samples, generator=generator) * scale,
            (2,),
            table,
            # PacGAN's protocol: 2,500 samples.
            lambda sample: metrics.mode_coverage(sample(2500) / scale, mixture)._asdict(),
            Drawn(lambda samples: scatter(samples / scale, mixture), "gray: the modes"),
        )
    if table.name == "digits":
        images, labels = datasets.digits()
        data, classes = ((images, labels), "0123456789") if table.labels else (images, "")
        return Source(data, (1, 8, 8), table, preview=Drawn(ink), classes=list(classes))
    if table.name == "stacked-digits":
        images, _ = datasets.stacked_digits(table.samples, generator=generator)
        judge = metrics.StackedDigits()
        # The protocol of Stacked MNIST: 26,000 samples.
        return Source(images, (3, 8, 8), table, lambda sample: judge(sample(26_000))._asdict())
    if not Path(table.name).is_dir():
        names = ", ".join((*_MIXTURES, "digits", "stacked-digits"))
        raise ConfigError(
            f"pygan train: [data] name must be {names}, or a folder of images, got {table.name!r}"
        )
    return _folder(table)


def _folder(table: DataTable) -> Source:
    """A folder of images, in the size and the channels that fit them where the table says nothing else."""
    images = datasets.ImageFolder(
        table.name,
        1 if table.size is None else table.size,
        channels=table.channels or 3,
        background=table.background,
        mirror=table.mirror,
        labels=table.labels,
    )
    if table.size is None:
        images.size = item_size(images.sizes, table.largest)
    if table.channels is None and images.gray:
        images.channels = 1
    height, width = images.size
    filled = replace(
        table,
        size=height if height == width else [height, width],
        channels=images.channels,
        labels=images.classes or False,
    )
    middle = " x ".join(str(int(statistics.median(s))) for s in zip(*images.sizes, strict=True))
    chosen = "" if table.size is not None else " (chosen; data.size sets another)"
    kinds = f" in {len(images.classes)} classes" if images.classes else ""
    found = (
        f"{len(images):,} images{kinds} in {table.name}, {middle} pixels in the median; "
        f"trained at {height} x {width}{chosen}, {'gray' if images.channels == 1 else 'RGB'}"
    )
    return Source(
        images,
        (images.channels, height, width),
        filled,
        classes=images.classes,
        found=found,
    )
