"""The checkpoints of a run: their location, the one to resume from, and how many to keep."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor

from pygan import checkpoint
from pygan.checkpoint import CheckpointError, numbered, step_of
from pygan.training.checkpoint_settings import is_plain
from pygan.training.find_nonfinite import broken_parts

__all__ = ["Storage", "find_checkpoint", "load_run"]


def find_checkpoint(
    run: str | os.PathLike[str], which: str | os.PathLike[str] | None = None
) -> Path:
    """Find a checkpoint of a run, without reading it.

    Args:
        run: the run's folder, the folder of its checkpoints, or a checkpoint.
        which: a step, or the name of a checkpoint in the run's folder; None: the newest.

    Raises:
        CheckpointError: there is none.
    """
    path = Path(run)
    if not path.is_dir():
        if which is not None:
            got = "a file" if path.exists() else "none"
            raise CheckpointError(
                path, f"must be the folder of a run if a checkpoint is named, got {got}"
            )
        return path
    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    if which is None:
        found = checkpoint.latest(folder)
        if found is None:
            raise CheckpointError(path, "contains no checkpoint step-XXXXXXXX.pt")
        return found
    name = os.fspath(which)
    if name.isdecimal():
        name = f"step-{int(name):08d}.pt"
    if not (folder / name).is_file():
        there = ", ".join(str(step_of(one)) for one in numbered(folder)) or "none"
        raise CheckpointError(folder / name, f"does not exist; existing steps: {there}")
    return folder / name


def load_run(path: Path) -> dict[str, Any]:
    """Load the state of a `pygan.fit` run from a checkpoint.

    Raises:
        CheckpointError: it cannot be read, does not belong to a run, or has non-finite weights.
    """
    state = checkpoint.load(path)
    _check(path, state)
    return state


class Storage:
    """The folder `out`/checkpoints.

    Args:
        out: the run's folder.
        keep: the number of checkpoints to keep; older ones are removed. None: keep all.
    """

    def __init__(self, out: Path, keep: int | None) -> None:
        self.folder, self.keep = out / "checkpoints", keep
        self.last: Path | None = None
        """The newest checkpoint that this run has read or written."""
        self._unusable: list[Path] = []

    def find(self, resume: str | os.PathLike[str] | None) -> dict[str, Any] | None:
        """The state to resume from: for "auto" that of the newest usable checkpoint in the folder, or None if there is
        none; for a path that of the checkpoint; for None, None.

        Raises:
            CheckpointError: the file is unusable, or all checkpoints in the folder are.
            FileExistsError: a new run, or one resumed from another folder, would overwrite a checkpoint.
        """
        if resume == "auto":
            return self._newest()
        if resume is None:
            self.refuse_another_run()
            return None
        path = Path(resume)
        state = load_run(path)
        if path.resolve().parent != self.folder.resolve():
            self.refuse_another_run()
        self.last = path
        return state

    def refuse_another_run(self) -> None:
        """Raise a FileExistsError if there are checkpoints in the folder."""
        there = checkpoint.latest(self.folder)
        if there is not None:
            raise FileExistsError(
                f"pygan.fit: out must not contain another run, got one with {there}; pass resume='auto' to "
                "continue it, or choose another folder"
            )

    @property
    def resumed(self) -> bool:
        """Whether this run was resumed from a checkpoint in its own folder."""
        return self.last is not None and self.last.resolve().parent == self.folder.resolve()

    def path(self, step: int) -> Path:
        """The path of a step's checkpoint."""
        return self.folder / f"step-{step:08d}.pt"

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the checkpoint of a step, then remove the oldest ones in excess of `keep`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(step)
        for later in numbered(self.folder):
            # The run was resumed from an earlier checkpoint and diverges from these: "auto" must not return to them.
            if step_of(later) > step or later in self._unusable:
                os.replace(later, later.with_name(f"abandoned-{later.name}"))
        self._unusable.clear()
        checkpoint.save(path, state)
        if self.keep is not None:
            for old in numbered(self.folder)[: -self.keep]:
                old.unlink()
        for unfinished in self.folder.glob(".step-*.pt.tmp"):  # left by a killed process
            unfinished.unlink()

    def _newest(self) -> dict[str, Any] | None:
        refused = None
        for path in reversed(numbered(self.folder)):
            try:
                state = checkpoint.read(path)
                _check(path, state)
            except CheckpointError as error:
                refused = error
                self._unusable.append(path)
                warnings.warn(
                    f"pygan.fit: {path} {error.reason}; trying the previous one", stacklevel=2
                )
                continue
            self.last = path
            return state
        if refused is not None:
            raise refused
        return None


# The entries that every checkpoint has, and those that later versions added.
_KINDS: dict[str, tuple[type, ...]] = {
    "step": (int,),
    "trainer": (dict,),
    "lr_schedulers": (list,),
    "monitor": (dict, type(None)),
    "random": (list,),
    "grid": (list, type(None)),
    "run": (dict,),
}
_LATER_KINDS: dict[str, tuple[type, ...]] = {
    "numbers": (dict, type(None)),
    "nonfinite": (dict,),
    "samples": (dict,),
    "config": (dict,),
    "stream": (dict, type(None)),
    "callbacks": (dict,),
}


def _check(path: Path, state: dict[str, Any]) -> None:
    """Raise a CheckpointError if the state does not belong to a run or has non-finite weights."""
    for name, kinds in {**_KINDS, **_LATER_KINDS}.items():
        if name not in state:
            if name in _KINDS:
                raise CheckpointError(path, f"is not a checkpoint of pygan.fit: it lacks {name!r}")
        elif type(state[name]) not in kinds:
            kind = type(state[name]).__name__
            raise CheckpointError(
                path, f"is not a checkpoint of pygan.fit: its {name!r} is a {kind}"
            )
    run, grid, trainer = state["run"], state["grid"], state["trainer"]
    counts = state.get("nonfinite", {"skipped": 0, "rollbacks": 0})
    numbers, samples = state.get("numbers") or {}, state.get("samples", {})
    stream = state.get("stream") or {"epoch": 0, "batch": 0, "state": None}
    valid = {
        "step": state["step"] >= 0,
        "lr_schedulers": all(isinstance(x, dict) for x in state["lr_schedulers"]),
        "random": all(isinstance(x, dict) for x in state["random"]) and state["random"] != [],
        "trainer": all(type(trainer.get(name)) is int for name in ("steps", "d_updates")),
        "run": all(type(key) is str and is_plain(value) for key, value in run.items())
        and type(run.get("seed")) is int,
        "grid": grid is None
        or (
            len(grid) == 2
            and all(isinstance(x, _FIXED_KINDS) for x in grid)
            and grid != [None, None]
        ),
        "numbers": all(type(k) is str and type(v) in (int, float) for k, v in numbers.items()),
        "nonfinite": set(counts) == {"skipped", "rollbacks"}
        and all(type(count) is int for count in counts.values()),
        "stream": set(stream) == {"epoch", "batch", "state"}
        and all(type(stream[name]) is int and stream[name] >= 0 for name in ("epoch", "batch")),
        "samples": not samples
        or (
            set(samples) == {"shape", "conditional"}
            and type(samples["shape"]) is list
            and all(type(size) is int and size > 0 for size in samples["shape"])
            and type(samples["conditional"]) is bool
        ),
    }
    for name, is_valid in valid.items():
        if not is_valid:
            raise CheckpointError(
                path, f"is not a checkpoint of pygan.fit: its {name!r} is invalid"
            )
    try:
        broken = broken_parts(trainer)
    except RecursionError:
        raise CheckpointError(
            path, "is not a checkpoint of pygan.fit: it contains itself"
        ) from None
    if broken:
        raise CheckpointError(path, f"contains non-finite values in {', '.join(broken)}")


_FIXED_KINDS = (Tensor, type(None))
