"""The learning-rate schedulers of `pygan.fit`: their checks, before anything is built, and the steps that they make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, SequentialLR

__all__ = ["check_lr_schedulers", "steps_of"]


def check_lr_schedulers(
    schedulers: Sequence[Any],
    steps: int,
    g_optimizer: Optimizer,
    d_optimizer: Optimizer,
    discriminator_start: int = 0,
) -> None:
    """Check that each is a scheduler of one of the optimizers, steps without a metric, and lasts for the whole run.

    Raises:
        TypeError, ValueError: a scheduler that does not meet these conditions.
    """
    own = [_unwrapped(optimizer) for optimizer in (g_optimizer, d_optimizer)]
    for scheduler in schedulers:
        for verb in ("step", "state_dict", "load_state_dict"):
            if not callable(getattr(scheduler, verb, None)):
                raise TypeError(
                    f"pygan.fit: lr_schedulers must be from torch.optim.lr_scheduler, got {type(scheduler).__name__}"
                )
        own_steps = steps_of(scheduler, steps, d_optimizer, discriminator_start)
        for part, its_steps in _parts(getattr(scheduler, "scheduler", scheduler), own_steps):
            _check(part, its_steps, own)


def steps_of(scheduler: Any, steps: int, d_optimizer: Optimizer, discriminator_start: int) -> int:
    """The number of steps that a scheduler makes in `steps` iterations: one in each that trains its network, so the
    discriminator's begin at `discriminator_start`."""
    if discriminator_start == 0:
        return steps
    parts = _parts(getattr(scheduler, "scheduler", scheduler), steps)
    optimizers = [_unwrapped(getattr(part, "optimizer", None)) for part, _ in parts]
    is_of_d = any(optimizer is _unwrapped(d_optimizer) for optimizer in optimizers)
    return max(0, steps - discriminator_start) if is_of_d else steps


def _check(scheduler: Any, steps: int, own: list[Any]) -> None:
    name = type(scheduler).__name__
    if isinstance(scheduler, ReduceLROnPlateau):
        raise TypeError(
            f"pygan.fit: lr_schedulers must step without a metric, got {name} (a GAN's losses plateau by design)"
        )
    optimizer = getattr(scheduler, "optimizer", None)  # a custom scheduler may not have one
    if optimizer is not None and not any(_unwrapped(optimizer) is one for one in own):
        raise ValueError(
            f"pygan.fit: lr_schedulers must belong to g_optimizer or d_optimizer, got {name} of another "
            f"{type(optimizer).__name__}"
        )
    if isinstance(scheduler, OneCycleLR) and scheduler.total_steps < steps:
        raise ValueError(
            f"pygan.fit: lr_schedulers must last for the whole run, got {name} with "
            f"total_steps={scheduler.total_steps} for {steps} steps"
        )


def _parts(scheduler: Any, steps: int) -> Iterator[tuple[Any, int]]:
    """The scheduler, or those that it contains, each with the number of steps that it makes in `steps` of the whole."""
    inner = getattr(scheduler, "_schedulers", None)
    if inner is None:
        yield scheduler, steps
    elif isinstance(scheduler, SequentialLR):
        milestones = scheduler._milestones
        ends = [milestone - 1 for milestone in milestones]
        for part, begin, end in zip(inner, [0, *milestones], [*ends, steps], strict=True):
            yield from _parts(part, min(end, steps) - begin)
    else:  # ChainedScheduler
        for part in inner:
            yield from _parts(part, steps)


def _unwrapped(optimizer: Any) -> Any:
    """The optimizer without accelerate's wrapper."""
    inner = getattr(optimizer, "optimizer", None)
    return _unwrapped(inner) if isinstance(inner, Optimizer) else optimizer
