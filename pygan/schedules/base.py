"""Base class of the schedules: the `sigma` buffer, the step count, and how .half() and resuming affect them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pygan._validation import check_int, describe, is_number
from pygan.stream import NoiseStream


class Schedule(nn.Module):
    """Base class: a value that depends on the number of steps taken.

    Args:
        sigma: the first value; None means `value(0)`.

    Attributes:
        sigma: 0-d float32 buffer, the current value (in units of the data). `module.half()` leaves it in float32.
        count: steps taken so far. `state_dict()` holds only the count; sigma is recomputed from it.

    Raises:
        ValueError: `value` did not return a finite non-negative number. sigma and count are then
            unchanged. (If a ramp continued below zero, the noise would grow again.)
        NotImplementedError: a custom schedule does not define `value`.
    """

    sigma: Tensor

    def __init__(self, sigma: float | None = None) -> None:
        super().__init__()
        self.count = 0
        first = self.checked_value(0) if sigma is None else sigma
        self.register_buffer("sigma", torch.tensor(first, dtype=torch.float32), persistent=False)

    def value(self, count: int) -> float:
        """The standard deviation after `count` steps: a finite non-negative number."""
        name = type(self).__name__
        raise NotImplementedError(
            f"{name}: value(count) must be defined by a custom schedule, got none"
        )

    def step(self, real_sign: Tensor | None = None) -> None:
        """Advance by one step. Does not synchronize. Call it outside compiled code, which only reads sigma.

        Args:
            real_sign: mean sign of the logits of real samples, for the schedules that respond to the discriminator.
                The others ignore it, so that a loop can pass it to any schedule.
        """
        self._move_to(self.count + 1)

    def draw(self, x: Tensor, stream: NoiseStream) -> Tensor:
        """The standard deviation for one call on the batch x (N, ...): 0-d, or one per sample, shape (N,).

        Random values are drawn at the stream's current position without advancing it; drawing the noise
        afterwards advances it.
        """
        return self.sigma

    def _move_to(self, count: int) -> None:
        """Set count, and sigma in place."""
        value = self.checked_value(count)
        self.count = count
        self.sigma.fill_(value)

    def checked_value(self, count: int) -> float:
        """The result of `value`, checked to be a standard deviation or a weight."""
        return checked(type(self).__name__, f"value({count})", self.value(count))

    def get_extra_state(self) -> dict[str, int]:
        return {"count": self.count}

    def set_extra_state(self, state: dict[str, int]) -> None:
        name = type(self).__name__
        if not isinstance(state, Mapping) or "count" not in state:
            raise TypeError(
                f"{name}: extra state must be a dict with the key count, got {describe(state)}"
            )
        check_int(name, "count", state["count"], least=0)
        # load_state_dict calls this last, when the buffers are already loaded.
        self._move_to(state["count"])

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Schedule:
        kept = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in kept.items():
            moved = self._buffers[name]
            # .half() and the like are meant for weights.
            if buffer is not None and moved is not None and moved.dtype != buffer.dtype:
                self._buffers[name] = buffer.to(moved.device)
        return self


def checked(name: str, argument: str, value: float) -> float:
    """An argument of the schedule `name`, checked to be a standard deviation."""
    if not is_number(value) or not 0.0 <= value <= torch.finfo(torch.float32).max:
        raise ValueError(f"{name}: {argument} must be a finite non-negative number, got {value!r}")
    return float(value)


def checked_steps(name: str, argument: str, value: int) -> int:
    check_int(name, argument, value)
    return value
