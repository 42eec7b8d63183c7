"""PackedStats: the statistics of a captured iteration, which outlive the next replay."""

from __future__ import annotations

import torch
from torch import Tensor

from pygan._trainer_stats import TrainStats

__all__ = ["PackedStats"]


class PackedStats:
    """Packs the tensors of statistics into few, within the graph, so that a copy takes few launches.

    Args:
        stats: of the iteration that is captured.
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
        """Those of the last replay."""
        rows = {dtype: iter(x.clone().unbind()) for dtype, x in self._packed.items()}
        values: list[Tensor] = [next(rows[dtype]) for dtype in self._dtypes]
        fields = len(TrainStats._fields)
        stats = TrainStats._make(values[:fields])
        stats.terms = dict(zip(self._terms, values[fields:], strict=True))
        return stats
