"""LoaderPosition: a run's position in data that have their own order, and how to return to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pygan.training.batch_order import check_batch_size, derived_seed
from pygan.training.random_state import isolated

__all__ = ["LoaderPosition"]

_CPU = torch.device("cpu")


class LoaderPosition:
    """The epoch and the number of its batches that have been read.

    Args:
        stateful: the object whose ``state_dict`` and ``load_state_dict`` continue within an epoch; None: the batches
            before the position are read again and skipped.
        batch_size, seed, rank, world, drop_last: see BatchSampler.

    Raises:
        ValueError: a batch has fewer samples than there are processes.
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
        check_batch_size(batch_size, world)
        self.batch_size, self.drop_last, self._stateful = batch_size, drop_last, stateful
        self.seed, self.rank, self.world = seed, rank, world
        self.epoch = self.batch = 0
        self.is_last = False
        """Whether the batch just read is known to be the last one of its epoch."""
        self._state: Any = None  # the state from which `stateful` continues

    def state_dict(self) -> dict[str, Any]:
        """The position, as plain data."""
        if self.is_last:  # `stateful` may have wrapped around
            return {"epoch": self.epoch + 1, "batch": 0, "state": None}
        state = self._state
        if state is None and self._stateful is not None and self.batch:
            state = self._stateful.state_dict()
        return {"epoch": self.epoch, "batch": self.batch, "state": state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a result of `state_dict`."""
        self.epoch, self.batch, self.is_last = state["epoch"], state["batch"], False
        self._state = None if self._stateful is None else state["state"]

    @property
    def batches_to_skip(self) -> int:
        """Number of batches to read again before the next new one."""
        return self.batch if self._state is None else 0

    def resume(self) -> int:
        """Restore the state of `stateful` before an epoch is read; returns `batches_to_skip`."""
        batches_to_skip = self.batches_to_skip
        if self._state is not None:
            self._stateful.load_state_dict(self._state)
            self._state = None
        return batches_to_skip

    def next_epoch(self) -> None:
        self.epoch, self.batch, self.is_last = self.epoch + 1, 0, False

    def draw(self, read: Callable[[], Any], what: int | str | None = None) -> Any:
        """Call `read`, which reads a batch (by default the next one), with the global generators seeded for that batch,
        so that what it draws does not depend on where the run started."""
        batch = self.batch if what is None else what
        with isolated(derived_seed(self.seed, "batch", self.epoch, batch), _CPU):
            return read()
