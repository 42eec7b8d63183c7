"""The diversity of a batch, and the distance between generated and real samples: three numbers, computed on the device
from the distances within and between the two batches."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["MOST", "measures"]

FEWEST, MOST = 8, 64
"""The measures need at least FEWEST samples, and use the first MOST."""

BANDWIDTH = 0.25
"""Two samples count as alike within about this fraction of the mean distance between two real samples."""


def measures(real: Any, fake: Any) -> Tensor:
    """(3,) float32; NaN for quantities that cannot be measured.

    1., 2. The effective number of different samples in the real and in the generated batch: 1 / mean k(x, x') over all
    pairs, with k a Gaussian kernel whose width is a quarter of the mean distance between two real samples. It is 1 if
    all samples are alike, and the batch size if all differ: 2 to the power of Rényi's quadratic entropy (in bits) of
    the batch, smoothed by the kernel.

    3. The energy distance between the two batches divided by twice the mean distance between them, from 0 (same
    distribution) to 1 (Székely and Rizzo 2013). It is unbiased and can fall slightly below 0.

    Args:
        real, fake: (N, ...) and (M, ...), floating-point, of the same shape except for the number of samples. Anything
            else, and batches of fewer than 8, give NaN.
    """
    if not _comparable(real, fake):
        return torch.full((3,), math.nan, device=fake.device if isinstance(fake, Tensor) else None)
    x, y = (batch.detach()[:MOST].flatten(1).float() for batch in (real, fake))
    with torch.autocast(x.device.type, enabled=False):
        n, m = len(x), len(y)
        # Centered, because the squares of values far from the origin would cancel.
        both = torch.cat([x, y]) - x.mean(0)
        apart = torch.cdist(both, both)
        # cdist leaves rounding errors on the diagonal.
        within_real = apart[:n, :n].fill_diagonal_(0.0)
        within_fake = apart[n:, n:].fill_diagonal_(0.0)
        real_mean = within_real.sum() / (n * (n - 1))
        fake_mean = within_fake.sum() / (m * (m - 1))
        between = apart[:n, n:].mean()
        scale = -0.5 / (BANDWIDTH * real_mean).square()
        number = [1.0 / (w.square() * scale).exp().mean() for w in (within_real, within_fake)]
        energy = (2.0 * between - real_mean - fake_mean) / (2.0 * between)
        # If all real samples are identical there is no length scale; the first two numbers are then NaN anyway.
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
