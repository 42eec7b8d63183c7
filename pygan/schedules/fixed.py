"""Schedules that depend only on the step count."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from pygan._validation import is_number
from pygan.schedules.base import Schedule, checked, checked_steps


class Constant(Schedule):
    """A constant `sigma`.

    Raises:
        ValueError: sigma is negative or not finite.
    """

    def __init__(self, sigma: float) -> None:
        self._sigma = checked("Constant", "sigma", sigma)
        super().__init__()

    def value(self, count: int) -> float:
        return self._sigma

    def extra_repr(self) -> str:
        return f"sigma={self._sigma}"


class _Ramp(Schedule):
    """From `start` to `end` in `steps` steps, then `end`."""

    def __init__(self, start: float, end: float, steps: int) -> None:
        name = type(self).__name__
        self.start, self.end = checked(name, "start", start), checked(name, "end", end)
        self.steps = checked_steps(name, "steps", steps)
        super().__init__()

    def value(self, count: int) -> float:
        if count >= self.steps:
            return self.end  # exactly, without rounding by the interpolation
        weight = self.weight(count / self.steps)
        return weight * self.start + (1.0 - weight) * self.end

    def weight(self, t: float) -> float:
        """Weight of `start` at time t in [0, 1)."""
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


class Exponential(Schedule):
    """``max(start * gamma**count, end)``: the same factor at every step, as in ``torch.optim``'s ``ExponentialLR``.

    Args:
        start: the first standard deviation, non-negative.
        gamma: factor per step, in (0, 1). To halve sigma every h steps: ``0.5 ** (1 / h)``.
        end: the lower limit of the decay, from 0 to `start`. With 0, sigma decays until it underflows.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(self, start: float, gamma: float, *, end: float = 0.0) -> None:
        self.start = checked("Exponential", "start", start)
        if not is_number(gamma) or not 0.0 < gamma < 1.0:
            raise ValueError(
                f"Exponential: gamma must be a number between 0 and 1, the factor per step, got {gamma!r}"
            )
        self.gamma = float(gamma)
        self.end = checked("Exponential", "end", end)
        if self.end > self.start:
            raise ValueError(f"Exponential: end must be at most start, {start!r}, got {end!r}")
        super().__init__()

    def value(self, count: int) -> float:
        return max(self.start * self.gamma**count, self.end)

    def extra_repr(self) -> str:
        return f"start={self.start}, gamma={self.gamma}, end={self.end}"


class Step(Schedule):
    """Piecewise constant: `values[0]`, then `values[k]` from the k-th milestone on.

    Milestones work as in ``torch.optim``'s ``MultiStepLR``: counts of `step()`; the value changes with
    the step that reaches one. The values are explicit instead of a factor, because 0 is a common last value.

        Step([0.5, 0.2, 0.0], milestones=[10_000, 20_000])

    Args:
        values: standard deviations, one more than the milestones.
        milestones: increasing positive integers.

    Raises:
        TypeError: values or milestones is not a sequence.
        ValueError: a value out of range, milestones that do not increase, or a wrong number of values.
    """

    def __init__(self, values: Sequence[float], milestones: Sequence[int]) -> None:
        for name, given in (("values", values), ("milestones", milestones)):
            if not isinstance(given, Iterable):
                raise TypeError(f"Step: {name} must be a sequence, got {type(given).__name__}")
        self.values = tuple(checked("Step", "each of values", value) for value in values)
        self.milestones = tuple(checked_steps("Step", "each milestone", m) for m in milestones)
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"Step: milestones must increase, got {list(milestones)!r}")
        if len(self.values) != len(self.milestones) + 1:
            raise ValueError(
                "Step: values must be one more than the milestones (the first applies before them), "
                f"got {len(self.values)} values and {len(self.milestones)} milestone(s)"
            )
        super().__init__()

    def value(self, count: int) -> float:
        return self.values[bisect_right(self.milestones, count)]

    def extra_repr(self) -> str:
        return f"values={list(self.values)}, milestones={list(self.milestones)}"
