"""What the penalties' functions ask of their arguments, and the reduction that they share."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pygan._validation import describe, number, scales


def batch(op: str, name: str, samples: Any) -> None:
    """That the samples are floating, (N, ...), and some."""
    if not isinstance(samples, Tensor) or not samples.is_floating_point():
        got = str(samples.dtype) if isinstance(samples, Tensor) else describe(samples)
        raise TypeError(f"{op}: {name} must be a floating tensor, got {got}")
    if samples.dim() == 0 or samples.numel() == 0:
        raise ValueError(
            f"{op}: {name} must be a batch (N, ...) that is not empty, got {describe(samples)}"
        )


def logits(op: str, name: str, given: Any, n: int, whose: str = "the samples'") -> list[Tensor]:
    """A tensor or a list of them, with logits for each of n samples."""
    listed = scales(op, name, given)
    for x in listed:
        # squeeze() leaves no dimension of a batch of one.
        if x.shape[:1] != (n,) and not (n == 1 and x.dim() == 0):
            raise ValueError(
                f"{op}: {name} must have {whose} first dimension, {n}, got {describe(x)}"
            )
    return listed


def positive(op: str, name: str, value: Any) -> float:
    checked = number(op, name, value)
    if not 0.0 < checked < float("inf"):
        raise ValueError(f"{op}: {name} must be positive and finite, got {checked}")
    return checked


def reduction(op: str, value: Any) -> None:
    if not isinstance(value, str) or value not in ("mean", "none"):
        raise ValueError(f"{op}: reduction must be mean or none, got {value!r}")


def reduced(values: Tensor, how: str) -> Tensor:
    return values.mean() if how == "mean" else values
