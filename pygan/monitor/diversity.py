"""The diversity of a batch, and the distance between generated and real samples: three numbers for the whole batch and
three within labels, computed on the device from the distances within and between the two batches."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pygan import _trees as trees

__all__ = ["MOST", "measures"]

FEWEST, MOST = 8, 64
"""The measures need at least FEWEST samples, and use the first MOST."""

BANDWIDTH = 0.25
"""Two samples count as alike within about this fraction of the mean distance between two real samples."""

LONGEST_LABEL = 1024
"""Labels of more numbers, such as images to translate, are not compared: hardly two are equal."""


def measures(real: Any, fake: Any, labels: Any = None) -> Tensor:
    """(6,) float32; NaN for quantities that cannot be measured.

    1., 2. The effective number of different samples in the real and in the generated batch: 1 / mean k(x, x') over all
    pairs, with k a Gaussian kernel whose width is a quarter of the mean distance between two real samples. It is 1 if
    all samples are alike, and the batch size if all differ: 2 to the power of Rényi's quadratic entropy (in bits) of
    the batch, smoothed by the kernel.

    3. The energy distance between the two batches divided by twice the mean distance between them, from 0 (same
    distribution) to 1 (Székely and Rizzo 2013). It is unbiased and can fall slightly below 0.

    4., 5., 6. The same three numbers within a label: the means are over the pairs with the same label, with the same
    kernel, and the effective numbers are those of a batch of the same size with a single label.

    Args:
        real, fake: (N, ...) and (M, ...), floating-point, of the same shape except for the number of samples. Anything
            else, and batches of fewer than 8, give NaN.
        labels: the labels of both batches, which must then be of the same size: (N, ...), or a nested tuple or dict
            of such tensors, on the device of the samples. Labels are the same if all of their numbers are.
    """
    if not _comparable(real, fake):
        return torch.full((6,), math.nan, device=fake.device if isinstance(fake, Tensor) else None)
    x, y = (batch.detach()[:MOST].flatten(1).float() for batch in (real, fake))
    n, m = len(x), len(y)
    with torch.autocast(x.device.type, enabled=False):
        # Centered, because the squares of values far from the origin would cancel.
        both = torch.cat([x, y]) - x.mean(0)
        apart = torch.cdist(both, both)
        parts = apart[:n, :n], apart[n:, n:], apart[:n, n:]
        pairs = [1.0 - torch.eye(size, device=x.device) for size in (n, m)]
        width = BANDWIDTH * _mean(parts[0], pairs[0])
        numbers = _numbers(parts, [*pairs, torch.ones_like(parts[2])], width)
        same = _same_label(labels, real, fake)
        if same is None:
            return torch.cat([numbers, torch.full_like(numbers, math.nan)])
        # The same pairs for all three means, so that each label has the same weight in them.
        return torch.cat([numbers, _numbers(parts, [same * pairs[0]] * 3, width)])


def _numbers(parts: tuple[Tensor, ...], pairs: list[Tensor], width: Tensor) -> Tensor:
    """The two effective numbers and the energy distance over the pairs with weight 1 of real, of generated, and of real
    and generated samples."""
    real, fake, between = (_mean(d, chosen) for d, chosen in zip(parts, pairs, strict=True))
    numbers = []
    for d, chosen in zip(parts[:2], pairs[:2], strict=True):
        alike = _mean((-0.5 * (d / width).square()).exp(), chosen)
        # The mean over all pairs, including each sample with itself.
        numbers.append(1.0 / (alike + (1.0 - alike) / len(d)))
    energy = (2.0 * between - real - fake) / (2.0 * between)
    # If all real samples are identical there is no length scale; the effective numbers are then NaN anyway.
    return torch.stack([*numbers, torch.where(width > 0.0, energy, math.nan)])


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """The mean of the values with weight 1; NaN if there are none."""
    return (values * chosen).sum() / chosen.sum()


def _same_label(labels: Any, real: Tensor, fake: Tensor) -> Tensor | None:
    """(N, N): 1 where two samples have the same label, otherwise 0; None if labels cannot be compared."""
    leaves = trees.leaves(labels)
    if not leaves or len(real) != len(fake):
        return None
    same = torch.ones((), device=real.device)
    for leaf in leaves:
        if leaf.device != real.device or len(leaf) != len(real):
            return None
        rows = leaf.detach()[:MOST].flatten(1) if leaf.dim() > 1 else leaf.detach()[:MOST, None]
        if rows.shape[1] > LONGEST_LABEL:
            return None
        same = same * (rows[:, None] == rows).all(2)
    return same


def _comparable(real: Any, fake: Any) -> bool:
    return (
        isinstance(real, Tensor)
        and isinstance(fake, Tensor)
        and real.is_floating_point()
        and fake.is_floating_point()
        and real.device == fake.device
        and real.shape[1:] == fake.shape[1:]
        and min(len(real), len(fake)) >= FEWEST
    )
