"""Argument checks of the penalty functions, and their reduction."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pygan._validation import check_dense, check_float, describe, number, scales


def batch(op: str, name: str, samples: Any) -> None:
    """Checks that the samples are a non-empty floating-point tensor (N, ...)."""
    if not isinstance(samples, Tensor):
        raise TypeError(f"{op}: {name} must be a floating-point tensor, got {describe(samples)}")
    check_float(op, name, samples)
    if samples.dim() == 0 or samples.numel() == 0:
        raise ValueError(
            f"{op}: {name} must be a non-empty batch (N, ...), got {describe(samples)}"
        )


def logits(op: str, name: str, given: Any, n: int, whose: str = "the samples'") -> list[Tensor]:
    """Checks a tensor or a list of tensors with logits for each of n samples; returns a list."""
    listed = scales(op, name, given)
    check_dense(op, name, *listed)
    for x in listed:
        # squeeze() turns a batch of one into a 0-d tensor.
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
