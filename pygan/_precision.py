"""The precision in which squares and sums of 16-bit tensors are computed."""

from __future__ import annotations

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """x in at least float32, so that the squares of an fp16 gradient neither underflow nor overflow."""
    if x.dtype in (torch.float32, torch.float64):
        return x
    return x.to(torch.promote_types(x.dtype, torch.float32))
