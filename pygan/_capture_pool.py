"""CapturedPool: a pool of past samples whose exchanges are replayed once it is full."""

from __future__ import annotations

import torch
from torch import Tensor

from pygan._capture_op_audit import storage_of
from pygan.fake_pool import FakePool

__all__ = ["CapturedPool"]


class CapturedPool:
    """The stored samples of a pool, in the graphs' tensors. When the pool is full, its samples are copied to them. (Its
    position in the noise stream is handled like that of any other stream.)

    Args:
        pool: the trainer's pool.
    """

    def __init__(self, pool: FakePool) -> None:
        self._pool = pool
        self._before = pool._filled, pool._stored
        self._values = {place: x.clone() for place, x in pool._stored.items()}
        self._recorded: dict[str, Tensor] = {}

    def fill(self) -> None:
        """Mark the pool as full for the following steps of the warm-up."""
        if self._pool._stored:
            self._pool._filled = self._pool.size

    def record(self) -> None:
        """Record the currently stored tensors as those that the graphs use."""
        self._recorded = self._pool._stored

    def storages(self) -> set[int]:
        return set(map(storage_of, self._recorded.values()))

    def restore(self) -> None:
        """Restore the samples that were stored at construction."""
        self._pool._filled, self._pool._stored = self._before
        for place, value in self._values.items():
            self._pool._stored[place].copy_(value)

    @torch.no_grad()
    def adopt_state(self) -> bool:
        """Whether the pool is full; its samples are then in the graphs' tensors.

        Raises:
            RuntimeError: the samples differ from the captured ones in shape or dtype.
        """
        pool, mine = self._pool, self._recorded
        if len(pool) < pool.size:
            return False
        for place, x in pool._stored.items():
            if x is mine.get(place):
                continue
            if place not in mine or x.shape != mine[place].shape or x.dtype != mine[place].dtype:
                raise RuntimeError(
                    "GANTrainer.step: pool must keep the samples that were captured, got others; call capture again"
                )
            mine[place].copy_(x)
        pool._stored = mine
        return True
