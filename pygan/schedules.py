"""How the standard deviation of the instance noise goes down over training.

    sigma = pygan.schedules.Linear(0.5, 0.0, steps=10_000)
    noise = pygan.InstanceNoise(sigma).to(device)
    for real in loader:
        ...
        noise.step()                 # or sigma.step(); the loop owns the clock, as with a learning-rate scheduler

A schedule is a module whose 0-d float32 buffer `sigma` holds the current value on the device. The count lives on the
host and `step()` writes the next value with `fill_`: nothing is read back, so nothing waits for the GPU, and because
compiled code sees a tensor and not a Python float, it is not compiled again when the value changes.

To write another one, derive from Schedule and define `value(count)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

__all__ = ["Constant", "Cosine", "Linear", "Schedule"]


class Schedule(nn.Module):
    """Base class: a value that depends on the number of steps taken.

    Attributes:
        sigma: 0-d float32 buffer, the current value (in units of the data). `module.half()` leaves it in float32.
        count: steps taken so far. It is what `state_dict()` holds; sigma is recomputed from it.
    """

    sigma: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.register_buffer(
            "sigma", torch.tensor(self.value(0), dtype=torch.float32), persistent=False
        )

    def value(self, count: int) -> float:
        """The standard deviation after `count` steps; non-negative."""
        raise NotImplementedError

    def step(self) -> None:
        """Move on by one step. Does not synchronise."""
        self.count += 1
        self.sigma.fill_(self.value(self.count))

    def get_extra_state(self) -> dict[str, int]:
        return {"count": self.count}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.count = state["count"]
        self.sigma.fill_(self.value(self.count))

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Schedule:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.sigma.dtype != torch.float32:  # .half() and friends are meant for weights
            value = self.value(self.count)
            self.sigma = torch.full((), value, dtype=torch.float32, device=self.sigma.device)
        return self


class Constant(Schedule):
    """The same `sigma` always.

    Raises:
        ValueError: sigma negative or not finite.
    """

    def __init__(self, sigma: float) -> None:
        self._sigma = _checked("Constant", "sigma", sigma)
        super().__init__()

    def value(self, count: int) -> float:
        return self._sigma

    def extra_repr(self) -> str:
        return f"sigma={self._sigma}"


class _Ramp(Schedule):
    """From `start` to `end` in `steps` steps, and `end` from then on."""

    def __init__(self, start: float, end: float, steps: int) -> None:
        name = type(self).__name__
        self.start, self.end = _checked(name, "start", start), _checked(name, "end", end)
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
            raise ValueError(f"{name}: steps must be a positive integer, got {steps!r}")
        self.steps = steps
        super().__init__()

    def value(self, count: int) -> float:
        if count >= self.steps:
            return self.end  # exactly, whatever the interpolation would round to
        weight = self.weight(count / self.steps)
        return weight * self.start + (1.0 - weight) * self.end

    def weight(self, t: float) -> float:
        """Share of `start` at time t in [0, 1)."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"start={self.start}, end={self.end}, steps={self.steps}"


class Linear(_Ramp):
    """``start + (end - start) * count / steps``, then `end`.

    Args:
        start, end: standard deviations, non-negative.
        steps: number of calls of `step()` until `end` is reached, at least 1.

    Raises:
        ValueError: a value out of range.
    """

    def weight(self, t: float) -> float:
        return 1.0 - t


class Cosine(_Ramp):
    """``end + (start - end) * (1 + cos(pi * count / steps)) / 2``, then `end`: slow, fast, slow
    (the shape of Loshchilov and Hutter 2017). Arguments and errors as for :class:`Linear`."""

    def weight(self, t: float) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * t))


def _checked(name: str, argument: str, value: float) -> float:
    if (
        not isinstance(value, (int, float))
        or isinstance(value, bool)
        or not 0.0 <= value < math.inf
    ):
        raise ValueError(f"{name}: {argument} must be a finite non-negative number, got {value!r}")
    return float(value)
