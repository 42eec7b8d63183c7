"""The checkpoints of a run: where they lie, which to resume from, how many are kept."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from pygan import checkpoint
from pygan.checkpoint import CheckpointError, numbered, step_of

__all__ = ["Storage"]


class Storage:
    """The folder `out`/checkpoints.

    Args:
        out: the run's folder.
        keep: how many checkpoints are kept, the newest; None: all.
    """

    def __init__(self, out: Path, keep: int | None) -> None:
        self.folder, self.keep = out / "checkpoints", keep
        self.last: Path | None = None
        """The newest checkpoint that this run has read or written."""

    def find(self, resume: str | os.PathLike[str] | None) -> dict[str, Any] | None:
        """What to resume from: for "auto" the newest usable checkpoint of the folder, None if there is none; for a
        path that checkpoint; for None nothing.

        Raises:
            CheckpointError: the file of that path cannot be used, or none of those that the folder holds.
            FileExistsError: a run that begins anew, or continues another folder's, would overwrite one.
        """
        if resume == "auto":
            return self._newest()
        path = None if resume is None else Path(resume)
        if path is None or path.resolve().parent != self.folder.resolve():
            there = checkpoint.latest(self.folder)
            if there is not None:
                raise FileExistsError(
                    f"pygan.fit: out must hold no other run, got one with {there}; resume='auto' continues it"
                )
        if path is None:
            return None
        state = checkpoint.load(path)
        self.last = path
        return state

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.folder / f"step-{step:08d}.pt"

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the checkpoint of a step, then remove those that are too many."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(step)
        for later in numbered(self.folder):
            # A run that was resumed from before them takes another way from here: "auto" must not return to them.
            if step_of(later) > step:
                os.replace(later, later.with_name(f"abandoned-{later.name}"))
        checkpoint.save(path, state)
        if self.keep is not None:
            for old in numbered(self.folder)[: -self.keep]:
                old.unlink()
        for unfinished in self.folder.glob(".step-*.pt.tmp"):  # by a process that was killed
            unfinished.unlink()

    def _newest(self) -> dict[str, Any] | None:
        refused = None
        for path in reversed(numbered(self.folder)):
            try:
                state = checkpoint.read(path)
            except CheckpointError as error:
                refused = error
                warnings.warn(
                    f"pygan.fit: {path} {error.reason}; trying the one before", stacklevel=2
                )
                continue
            self.last = path
            return state
        if refused is not None:
            raise refused
        return None
