"""Callback: hooks that `fit` calls between its steps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pygan.trainer import GANTrainer, TrainStats

__all__ = ["Callback", "check_callbacks", "load_states", "stateful", "states"]


class Callback:
    """Base class of the callbacks of ``pygan.fit(callbacks=[...])``; each method does nothing unless overridden.

        class Best(pygan.Callback):
            best = float("inf")
            def on_evaluate(self, trainer, step, metrics):
                if metrics["fid"] < self.best:
                    self.best = metrics["fid"]
                    torch.save(trainer.ema.state_dict(), "best.pt")

    Callbacks are called in the order of the list, and an exception in one ends the run. If a callback has `state_dict`
    and `load_state_dict`, its state is saved in the checkpoints, before `on_checkpoint` and `on_evaluate` of the same
    step are called; a resumed run begins by repeating these calls.
    """

    def on_step(self, trainer: GANTrainer, step: int, stats: TrainStats) -> None:
        """Called in every process after each iteration, including its schedules, when `step` iterations are done.
        `stats` are tensors on the device; reading them synchronizes."""

    def on_checkpoint(self, trainer: GANTrainer, step: int, path: Path) -> None:
        """Called in the main process after a checkpoint has been written to disk."""

    def on_evaluate(self, trainer: GANTrainer, step: int, metrics: dict[str, float]) -> None:
        """Called in the main process after `evaluate`, and after the checkpoint of the same step. `metrics` is the line
        just logged, with statistics and evaluation."""


_HOOKS = ("on_step", "on_checkpoint", "on_evaluate")


def check_callbacks(callbacks: Any) -> None:
    """Check that each is a Callback without methods that would never be called.

    Raises:
        TypeError: one is something else, or has an unknown ``on_...`` method.
    """
    if not isinstance(callbacks, (list, tuple)):
        raise TypeError(
            f"pygan.fit: callbacks must be a list of pygan.Callback, got {type(callbacks).__name__}"
        )
    for callback in callbacks:
        if not isinstance(callback, Callback):
            got = callback.__name__ if isinstance(callback, type) else type(callback).__name__
            cure = ", the class" if isinstance(callback, type) else ""
            raise TypeError(
                f"pygan.fit: callbacks must be a list of pygan.Callback, got one with {got}{cure}"
            )
        for name in dir(callback):
            known = name in _HOOKS or not name.startswith("on_")
            if not known and callable(getattr(callback, name)):
                raise TypeError(
                    f"pygan.fit: callbacks must define no hooks other than {', '.join(_HOOKS)}, got "
                    f"{type(callback).__name__}.{name}"
                )


def states(callbacks: Iterable[Callback]) -> dict[str, Any]:
    """The states of the callbacks that have one, by name."""
    return {name: one.state_dict() for name, one in stateful(callbacks).items()}


def load_states(callbacks: Iterable[Callback], saved: dict[str, Any]) -> None:
    """Load the result of `states`; a callback whose state was not saved starts fresh."""
    for name, one in stateful(callbacks).items():
        if name in saved:
            one.load_state_dict(saved[name])


def stateful(callbacks: Iterable[Callback]) -> dict[str, Any]:
    """The callbacks with a state, by class name, numbered if a class occurs several times."""
    found: dict[str, Any] = {}
    for one in callbacks:
        if hasattr(one, "state_dict") and hasattr(one, "load_state_dict"):
            name = type(one).__qualname__
            same = sum(key.partition("#")[0] == name for key in found)
            found[f"{name}#{same}" if same else name] = one
    return found
