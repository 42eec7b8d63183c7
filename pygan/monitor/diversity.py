"""How varied the samples of a batch are, and how far the generated ones are from the real ones: three numbers, on the
device, from the distances within and between the two batches."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["MOST", "measures"]

FEWEST, MOST = 8, 64
"""Of fewer samples a batch the measures say nothing; of more, the first so many are looked at."""

BANDWIDTH = 0.25
"""Two samples count as alike when they are about this much of the mean distance of two real ones apart."""


def measures(real: Any, fake: Any) -> Tensor:
    """(3,) float32, NaN where there is nothing to measure.

    1., 2. The effective number of different samples in the real and in the generated batch: 1 / mean k(x, x') over all
    pairs, k a Gaussian kernel whose width is a quarter of the mean distance of two real samples. It is 1 where all
    samples are alike, and the batch's size where all differ: 2 to the power of Rényi's quadratic entropy (in bits) of
    the batch, seen through the kernel.

    3. The energy distance of the two batches over twice the mean distance between them, from 0 (equally
    distributed) to 1 (Székely and Rizzo 2013). It is unbiased and can fall a little below 0.

    Args:
        real, fake: (N, ...) and (M, ...), floating, of one shape but for the number of samples. Anything else, and
            batches of fewer than 8, give NaN.
    """
    if not _comparable(real, fake):
        return torch.full((3,), math.nan, device=fake.device if isinstance(fake, Tensor) else None)
    x, y = (batch.detach()[:MOST].flatten(1).float() for batch in (real, fake))
    with torch.autocast(x.device.type, enabled=False):
        n, m = len(x), len(y)
        # About the origin the squares would cancel.
        both = torch.cat([x, y]) - x.mean(0)
        apart = torch.cdist(both, both)
        # cdist leaves rounding on the diagonal.
        within_real = apart[:n, :n].fill_diagonal_(0.0)
        within_fake = apart[n:, n:].fill_diagonal_(0.0)
        real_mean = within_real.sum() / (n * (n - 1))
        fake_mean = within_fake.sum() / (m * (m - 1))
        between = apart[:n, n:].mean()
        scale = -0.5 / (BANDWIDTH * real_mean).square()
        number = [1.0 / (w.square() * scale).exp().mean() for w in (within_real, within_fake)]
        energy = (2.0 * between - real_mean - fake_mean) / (2.0 * between)
        # Of real samples that are all the same there is no scale to measure with; the numbers are NaN by themselves.
        energy = torch.where(real_mean > 0.0, energy, math.nan)
    return torch.stack([*number, energy])


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
