"""StreamOrder: a run's position in data with their own order, and how to return to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pygan.training.batch_order import derived_seed
from pygan.training.random_state import isolated

__all__ = ["StreamOrder"]

_CPU = torch.device("cpu")


class StreamOrder:
    """The epoch, and how many of its batches have been read.

    Args:
        stateful: the object with ``state_dict`` and ``load_state_dict`` that continues within an epoch; None: the
            batches that have been read are read once more, and passed over.
        batch_size, seed, rank, world, drop_last: as for BatchSampler.

    Raises:
        ValueError: there is not a sample for each process in a batch.
    """

    def __init__(
        self,
        batch_size: int,
        stateful: Any,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = True,
    ) -> None:
        if batch_size < world:
            raise ValueError(
                f"pygan.fit: batch_size must be at least the number of processes, {world}, got {batch_size}"
            )
        self.batch_size, self.drop_last, self._stateful = batch_size, drop_last, stateful
        self.seed, self.rank, self.world = seed, rank, world
        self.epoch = self.batch = 0
        self.is_last = False
        """Whether the batch that has been read is the last one of its epoch, as far as that is known."""
        self._state: Any = None  # of `stateful`, to continue from

    def state_dict(self) -> dict[str, Any]:
        """The place, as plain data."""
        if self.is_last:  # `stateful` may be at its beginning again
            return {"epoch": self.epoch + 1, "batch": 0, "state": None}
        state = self._state
        if state is None and self._stateful is not None and self.batch:
            state = self._stateful.state_dict()
        return {"epoch": self.epoch, "batch": self.batch, "state": state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.epoch, self.batch, self.is_last = state["epoch"], state["batch"], False
        self._state = None if self._stateful is None else state["state"]

    @property
    def passes_over(self) -> int:
        """How many batches are read before the next new one."""
        return self.batch if self._state is None else 0

    def resume(self) -> int:
        """Bring the object to the place, before an epoch is read; returns `passes_over`."""
        passes_over = self.passes_over
        if self._state is not None:
            self._stateful.load_state_dict(self._state)
            self._state = None
        return passes_over

    def next_epoch(self) -> None:
        self.epoch, self.batch, self.is_last = self.epoch + 1, 0, False

    def draw(self, read: Callable[[], Any], what: int | str | None = None) -> Any:
        """What a function returns that reads a batch, the next one by default: what it draws from the global generators
        is the same wherever the run began."""
        batch = self.batch if what is None else what
        with isolated(derived_seed(self.seed, "batch", self.epoch, batch), _CPU):
            return read()
