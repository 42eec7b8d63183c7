"""What all schedules share: the buffer `sigma`, the count of steps, and what .half() and a resume do to them."""

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
        sigma: the first value; None stands for `value(0)`.

    Attributes:
        sigma: 0-d float32 buffer, the current value (in units of the data). `module.half()` leaves it in float32.
        count: steps taken so far. It is what `state_dict()` holds; sigma is recomputed from it.

    Raises:
        ValueError: `value` returned something else than a finite non-negative number. Then sigma and count are
            unchanged. (Below zero, the noise of a ramp that was not stopped would grow again.)
        NotImplementedError: a schedule of your own does not define `value`.
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
            f"{name}: value(count) must be defined by a schedule of your own, got none"
        )

    def step(self, real_sign: Tensor | None = None) -> None:
        """Move on by one step. Does not synchronise. To be called outside of compiled code, which sees only sigma.

        Args:
            real_sign: mean sign of the logits of real samples, for the schedules that follow the discriminator. Those
                that follow the count ignore it, so that a loop can hand it to any schedule.
        """
        self._move_to(self.count + 1)

    def draw(self, x: Tensor, stream: NoiseStream) -> Tensor:
        """The standard deviation for one call on the batch x (N, ...): 0-d, or one for each sample, shape (N,).

        What is random in it is drawn at the stream's position, and does not move the stream on: the noise that is
        drawn next does.
        """
        return self.sigma

    def _move_to(self, count: int) -> None:
        """Set count, and sigma in place."""
        value = self.checked_value(count)
        self.count = count
        self.sigma.fill_(value)

    def checked_value(self, count: int) -> float:
        """What `value` returned, if it can be a standard deviation or a weight."""
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
        # load_state_dict leaves this state for the end, when the buffers are loaded.
        self._move_to(state["count"])

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Schedule:
        kept = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in kept.items():
            moved = self._buffers[name]
            # .half() and friends are meant for weights.
            if buffer is not None and moved is not None and moved.dtype != buffer.dtype:
                self._buffers[name] = buffer.to(moved.device)
        return self


def checked(name: str, argument: str, value: float) -> float:
    """The argument of the schedule `name`, if it can be a standard deviation."""
    if not is_number(value) or not 0.0 <= value <= torch.finfo(torch.float32).max:
        raise ValueError(f"{name}: {argument} must be a finite non-negative number, got {value!r}")
    return float(value)


def checked_steps(name: str, argument: str, value: int) -> int:
    check_int(name, argument, value)
    return value
