"""The data of `pygan train --data ...`: the samples, the evaluation of generated ones, and their preview."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pygan import datasets, metrics
from pygan._histogram import kl_from_uniform
from pygan._stacked_coverage import SURE
from pygan._validation import counted
from pygan.training.automatic_settings import item_size
from pygan.training.config import DataTable
from pygan.training.drawing import CaptionedPreview, ink, scatter

__all__ = ["Source", "distances", "preview_of", "source"]

_MIXTURES = {"ring": datasets.RING, "grid": datasets.GRID}
_MAX_COMPARED = 5000  # the largest number of samples whose features are compared


@dataclass(frozen=True)
class Source:
    """Data with their evaluation and preview."""

    data: Any
    """The data for `pygan.fit`."""
    shape: tuple[int, ...]
    """The shape of a sample."""
    table: DataTable
    """The requested configuration, with the unspecified values filled in."""
    protocol: Callable[[Tensor], dict[str, float]] | None = None
    """Evaluates generated samples by the protocol of the data."""
    protocol_samples: int = 0
    """Number of samples that the protocol uses."""
    features: Callable[[Tensor], Tensor] | None = None
    """Features (n, d) of samples, from a network trained on these data."""
    real: Tensor | None = None
    """The real samples whose features are compared with those of generated ones."""
    preview: CaptionedPreview | None = None
    classes: Sequence[str] = ()
    """The names of the labels 0, 1, ..., if the data have labels."""
    found: str | None = None
    """A message that says what a folder contains and how it is used."""

    @property
    def evaluate(self) -> Callable[[Callable[[int], Tensor]], dict[str, float]] | None:
        """The `evaluate` argument of `pygan.fit`; None if the data have no protocol."""
        return None if self.protocol is None else self._evaluate

    def _evaluate(self, sample: Callable[[int], Tensor]) -> dict[str, float]:
        assert self.protocol is not None
        fake = sample(self.protocol_samples).float().cpu()
        found = self.protocol(fake)
        if self.features is not None:
            found |= distances(self._real_features, self.features(fake[: len(self._real_features)]))
        return found

    @functools.cached_property
    def _real_features(self) -> Tensor:
        assert self.features is not None and self.real is not None
        order = torch.randperm(len(self.real), generator=torch.Generator().manual_seed(0))
        return self.features(self.real[order[:_MAX_COMPARED]])


def distances(real: Tensor, fake: Tensor) -> dict[str, float]:
    """Distances between the features of generated samples and those of real ones."""
    return {
        "frechet_distance": metrics.frechet_distance(real, fake),
        **metrics.precision_recall(real, fake)._asdict(),
        "coverage": metrics.coverage(real, fake),
    }


def preview_of(name: str, scale: float = 1.0) -> CaptionedPreview | None:
    """How samples of the built-in data `name`, multiplied by `scale`, are drawn; None: as images."""
    if name in _MIXTURES:
        mixture = _MIXTURES[name]
        return CaptionedPreview(
            lambda samples: scatter(samples / scale, mixture), "gray: the modes"
        )
    return CaptionedPreview(ink) if name in ("digits", "mnist") else None


def source(table: DataTable, seed: int) -> Source:
    """The data named by the [data] table; mixtures and stacked digits are drawn with the seed."""
    generator = torch.Generator().manual_seed(seed)
    if table.name in _MIXTURES:
        mixture, scale = _MIXTURES[table.name], table.scale
        return Source(
            mixture.sample(table.samples, generator=generator) * scale,
            (2,),
            table,
            lambda samples: metrics.mode_coverage(samples / scale, mixture)._asdict(),
            2500,  # PacGAN's protocol
            preview=preview_of(table.name, scale),
        )
    if table.name == "digits":
        images, labels = datasets.digits()
        data, classes = ((images, labels), "0123456789") if table.labels else (images, "")
        return Source(data, (1, 8, 8), table, preview=preview_of(table.name), classes=list(classes))
    if table.name == "stacked-digits":
        images, _ = datasets.stacked_digits(table.samples, generator=generator)
        coverage = metrics.StackedDigits()
        # The protocol of Stacked MNIST: 26,000 samples.
        return Source(images, (3, 8, 8), table, lambda samples: coverage(samples)._asdict(), 26_000)
    if table.name == "mnist":
        return _mnist(table, generator)
    if table.name == "stacked-mnist":
        images, _ = datasets.stacked_mnist(table.samples, root=table.root, generator=generator)
        stacked = metrics.StackedMNIST(table.root)
        return Source(
            images,
            (3, 28, 28),
            table,
            lambda samples: stacked(samples)._asdict(),
            26_000,
            stacked.features,
            images,
        )
    return _folder(table)


def _mnist(table: DataTable, generator: torch.Generator) -> Source:
    """MNIST's digits, or some of them, evaluated by a classifier."""
    every, labels = datasets.mnist(table.root)
    chosen = torch.randperm(len(every), generator=generator)[: table.samples]
    images, labels = every[chosen], labels[chosen]
    classifier = metrics.MNISTClassifier(table.root)
    return Source(
        (images, labels) if table.labels else images,
        (1, 28, 28),
        table,
        lambda samples: _histogram(classifier.probabilities(samples)),
        _MAX_COMPARED,
        classifier.features,
        every,
        preview_of(table.name),
        list("0123456789") if table.labels else (),
    )


def _histogram(probabilities: Tensor) -> dict[str, float]:
    """Statistics of the digits that the classifier recognizes in samples."""
    most, digits = probabilities.max(1)
    counts = torch.bincount(digits, minlength=10)
    shares = {f"share_{digit}": float(n) / len(digits) for digit, n in enumerate(counts)}
    found = {"modes": int((counts > 0).sum()), "reverse_kl": kl_from_uniform(counts)}
    return {**found, "sure": float((most > SURE).double().mean()), **shares}


def _folder(table: DataTable) -> Source:
    """A folder of images; a size and channels that the table does not set are chosen to fit the images."""
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
    automatic = "" if table.size is not None else " (--set data.size=... overrides)"
    kinds = f", in {len(images.classes)} classes" if images.classes else ""
    folders = {path.relative_to(table.name).parent.parts[:1] for path in images.paths}
    if not images.classes and len(folders) > 1 and () not in folders:
        kinds = f", in {len(folders)} subfolders (--set data.labels=true makes them classes)"
    found = (
        f"{counted(len(images), 'image')} in {table.name}{kinds}; median size {middle}, "
        f"training at {height} x {width}{automatic}, {'gray' if images.channels == 1 else 'RGB'}"
    )
    return Source(
        images,
        (images.channels, height, width),
        filled,
        classes=images.classes,
        found=found,
    )
