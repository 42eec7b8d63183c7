"""Exponential moving averages of means, kept on the device, for LeCam and the path length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pygan._parallel import is_distributed
from pygan._precision import wide
from pygan._validation import check_int, number


class RunningMeans(nn.Module):
    """Averages that each call in training mode updates, and no call in eval mode.

    Args:
        op: for messages.
        shape: shape of the averages.
        decay: from 0 to below 1.
        start: for this many first calls, the averages are the means of the call itself.
    """

    averages: Tensor
    calls: Tensor

    def __init__(self, op: str, shape: tuple[int, ...], decay: float, start: int) -> None:
        super().__init__()
        self.decay, self.start = number(op, "decay", decay), start
        if not 0.0 <= self.decay < 1.0:
            raise ValueError(f"{op}: decay must be from 0 to below 1, got {decay!r}")
        check_int(op, "start", start, 0)
        # float64: an average that moves by a thousandth of a small difference is not rounded away.
        self.register_buffer("averages", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def _moved(self, groups: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The averages updated with the mean of each group, and whether they have started, 0-d. Does not synchronize;
        the averages move to the device of the groups."""
        if self.averages.device != groups[0].device:
            self.to(groups[0].device)
        started = self.calls >= self.start
        if self.training:
            means = _means(groups).view_as(self.averages)
            moved = torch.lerp(means, self.averages, self.decay)
            if self.start > 0:
                moved = torch.where(started, moved, means)
            # An infinite mean, as from an overflow that a GradScaler skips, would stay in the averages forever.
            finite = moved.isfinite()
            self.averages.copy_(torch.where(finite, moved, self.averages))
            self.calls.add_(finite.all())
        return self.averages.clone(), started

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> RunningMeans:
        exact = self.averages
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch has no annotation
        if self.averages.dtype != exact.dtype:  # .half() etc. are meant for weights
            self.averages = exact.to(self.averages.device)
        return self


def _means(groups: list[Tensor]) -> Tensor:
    """(groups,): means over all processes, which may have different numbers of values."""
    means = torch.stack([wide(x).mean() for x in groups]).double()
    if not is_distributed():
        return means
    counts = torch.stack([torch.full_like(means[0], x.numel()) for x in groups])
    both = torch.stack([means * counts, counts])
    torch.distributed.all_reduce(both)
    return both[0] / both[1]
