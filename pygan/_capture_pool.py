"""CapturedPool: a pool of past samples whose exchanges are replayed, once it is full."""

from __future__ import annotations

import torch
from torch import Tensor

from pygan._capture_audit import storage_of
from pygan.fake_pool import FakePool

__all__ = ["CapturedPool"]


class CapturedPool:
    """What a pool stores, as the graphs hold it. What it has stored by the time it is full is taken over. (Its place in
    the stream is found like that of any other.)

    Args:
        pool: of the trainer.
    """

    def __init__(self, pool: FakePool) -> None:
        self._pool = pool
        self._before = pool._filled, pool._stored
        self._values = {place: x.clone() for place, x in pool._stored.items()}
        self._mine: dict[str, Tensor] = {}

    def fill(self) -> None:
        """Have the steps that follow one of the warm-up find it full."""
        if self._pool._stored:
            self._pool._filled = self._pool.size

    def look(self) -> None:
        """Take what is stored now for the graphs' own."""
        self._mine = self._pool._stored

    def storages(self) -> set[int]:
        return set(map(storage_of, self._mine.values()))

    def put_back(self) -> None:
        """What was stored when this was made."""
        self._pool._filled, self._pool._stored = self._before
        for place, value in self._values.items():
            self._pool._stored[place].copy_(value)

    @torch.no_grad()
    def take_over(self) -> bool:
        """Whether the pool is full, of samples that the graphs hold.

        Raises:
            RuntimeError: it is full of others.
        """
        pool, mine = self._pool, self._mine
        if len(pool) < pool.size:
            return False
        for place, x in pool._stored.items():
            if x is mine.get(place):
                continue
            if place not in mine or x.shape != mine[place].shape or x.dtype != mine[place].dtype:
                raise RuntimeError(
                    "GANTrainer.step: pool must store samples as they were captured, got others; call capture again"
                )
            mine[place].copy_(x)
        pool._stored = mine
        return True
