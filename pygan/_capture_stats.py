"""PackedStats: statistics of a captured iteration, copied so that the next replay does not overwrite them."""

from __future__ import annotations

import torch
from torch import Tensor

from pygan._trainer_stats import TrainStats

__all__ = ["PackedStats"]


class PackedStats:
    """Packs the statistics into few tensors within the graph, so that copying them takes few launches.

    Args:
        stats: the statistics of the captured iteration.
    """

    def __init__(self, stats: TrainStats) -> None:
        values = [*stats, *stats.terms.values()]
        self._terms = [*stats.terms]
        self._dtypes = [x.dtype for x in values]
        self._packed = {
            dtype: torch.stack([x for x in values if x.dtype == dtype])
            for dtype in dict.fromkeys(self._dtypes)
        }

    def copied(self) -> TrainStats:
        """A copy of the last replay's statistics."""
        rows = {dtype: iter(x.clone().unbind()) for dtype, x in self._packed.items()}
        values: list[Tensor] = [next(rows[dtype]) for dtype in self._dtypes]
        fields = len(TrainStats._fields)
        stats = TrainStats._make(values[:fields])
        stats.terms = dict(zip(self._terms, values[fields:], strict=True))
        return stats
