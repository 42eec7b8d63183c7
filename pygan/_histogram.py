"""The divergence of a histogram."""

from __future__ import annotations

import math

from torch import Tensor

__all__ = ["kl_from_uniform"]


def kl_from_uniform(counts: Tensor) -> float:
    """KL(counts / their sum || uniform) in nats; infinite if all counts are 0."""
    shares = counts[counts > 0].double() / counts.sum()
    if not len(shares):
        return math.inf
    # max, because for even counts rounding can give a negative number.
    return max(0.0, float((shares * (shares * len(counts)).log()).sum()))
