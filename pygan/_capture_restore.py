"""Finds everything in a GANTrainer that the warm-up of a capture changes, and restores it afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from pygan._capture_entries import Entries, entries_of
from pygan._capture_optimizer import CapturedOptimizer
from pygan._capture_pool import CapturedPool
from pygan._capture_snapshot import Snapshot
from pygan.average import EMA

__all__ = ["find_entries", "restored_after"]

# Attributes that the trainer itself changes in a step.
_MOVING = ("steps", "d_updates", "real", "fake", "labels", "ends_in_sigmoid")
_SCALER = ("_scale", "_growth_tracker", "_growth_factor", "_backoff_factor", "_growth_interval")


def find_entries(trainer: Any) -> list[Entries]:
    """Everything that a step depends on, except optimizers: objects, numbers and tensors."""
    found: list[Entries] = []
    seen = {id(trainer)}
    owners = [trainer, *map(vars(trainer).get, ("_networks", "_samples", "_runner", "_losses"))]
    for owner in owners:
        own = vars(owner)
        keys = [key for key in own if not key.startswith("_") and key not in _MOVING]
        found.append(Entries("GANTrainer", own, keys, False))
        for key in keys:
            if key not in ("g", "d", "scaler"):
                found += entries_of(key, own[key], seen)
    for player in (trainer._networks.g, trainer._networks.d):
        found.append(Entries(player.name, vars(player), ["network", "optimizer"], False))
        found += entries_of(player.name, player.bare, seen)
    if trainer.scaler is not None:
        found.append(Entries("scaler", vars(trainer.scaler), [*_SCALER], False))
    return found


@contextmanager
def restored_after(
    trainer: Any, holders: Sequence[CapturedOptimizer | CapturedPool], device: torch.device
) -> Iterator[Snapshot]:
    """Context manager that restores everything on exit: the values of tensors, counts, gradients, and the states of
    PyTorch's generators."""
    if trainer.scaler is not None:
        trainer.scaler.scale(torch.zeros((), device=device))  # creates its tensors
    snapshot = Snapshot(find_entries(trainer))
    penalties = trainer._reports.penalties
    values = [x.clone() for x in penalties]
    moving: list[tuple[Any, str, Any]] = [
        (trainer, name, getattr(trainer, name)) for name in _MOVING
    ]
    if isinstance(trainer.ema, EMA):
        moving.append((trainer.ema, "_empty", trainer.ema._empty))
    grads = [
        (p, p.grad)
        for player in (trainer._networks.g, trainer._networks.d)
        for p in player.parameters
    ]
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index])
    states = [generator.get_state() for generator in generators]
    try:
        yield snapshot
    finally:
        snapshot.restore()
        for holder in holders:
            holder.restore()
        penalties[:] = values
        for owner, name, value in moving:
            setattr(owner, name, value)
        for p, grad in grads:
            p.grad = grad
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        torch.clear_autocast_cache()
