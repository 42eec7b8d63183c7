"""Host numbers that change between steps, as device tensors while a step is captured as a CUDA graph.

A replay repeats host numbers with their values at capture time, but reads the current values of tensors. Eager steps
use
plain numbers, because reading a tensor takes as long as a small kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor

from pygan.schedules import Schedule

__all__ = ["DeviceNumbers", "host_number", "scheduled"]


class DeviceNumbers:
    """Device tensors with the values of schedules that depend on the iteration count.

    Args:
        device: the device of the tensors.
        steps: the number of finished iterations.
    """

    def __init__(self, device: torch.device, steps: int) -> None:
        self._device = device
        self._of: dict[Schedule, Tensor] = {}
        self._written: dict[Schedule, float] = {}
        self._steps = steps

    def tensor(self, schedule: Schedule) -> Tensor:
        """The tensor with a schedule's value, 0-d, float64."""
        if schedule not in self._of:
            value = self._written[schedule] = schedule.checked_value(self._steps)
            self._of[schedule] = torch.full((), value, dtype=torch.float64, device=self._device)
        return self._of[schedule]

    def write(self, steps: int) -> None:
        """Write the values after `steps` iterations, if they have changed."""
        values = {schedule: schedule.checked_value(steps) for schedule in self._of}
        for schedule, value in values.items():
            if self._written.get(schedule) != value:
                self._of[schedule].fill_(value)
        self._written, self._steps = values, steps

    @contextmanager
    def substituted(self) -> Iterator[None]:
        """Context manager in which `scheduled` returns the tensors, and using a `host_number` is refused."""
        global _substituted
        _substituted = self
        try:
            yield
        finally:
            _substituted = None


_substituted: DeviceNumbers | None = None


def scheduled(schedule: Schedule, steps: Any, like: Tensor, factor: float = 1.0) -> float | Tensor:
    """`factor` times the schedule's value after `steps` iterations: a number, or during capture a tensor of `like`'s
    dtype, rounded once.

    Raises:
        ValueError: the value is negative or not finite.
    """
    if _substituted is None:
        return factor * schedule.checked_value(steps)
    return (factor * _substituted.tensor(schedule)).to(like.dtype)


def host_number(value: int, name: str) -> Any:
    """A number that a step passes to user functions; while a step is captured, an object that raises when it is
    used."""
    return value if _substituted is None else _Frozen(name)


class _Frozen:
    """Replaces a number whose value a graph would freeze."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _refuse(self, *_: Any) -> NoReturn:
        raise RuntimeError(
            f"GANTrainer.capture: {self._name} must not be used in a captured step, because it is a Python number, "
            "which a graph repeats unchanged, got a step that uses it; use a schedule, or a tensor that you change in "
            "place between steps"
        )

    __index__ = __int__ = __float__ = __bool__ = __hash__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _refuse
    __pow__ = __rpow__ = __neg__ = __abs__ = __round__ = __str__ = __format__ = _refuse
