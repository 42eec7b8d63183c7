"""Argument checks of :mod:`pygan.reference`, made before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

from torch import Tensor

from pygan._validation import check_dense


def scales_of(op: str, loss: str, reduction: str, **logits: Any) -> list[list[Tensor]]:
    """Each argument as a list of float64 tensors, one per scale."""
    (first, one), *others = logits.items()
    for name, other in others:
        if isinstance(one, Tensor) != isinstance(other, Tensor):
            raise ValueError(
                f"{op}: {name} must be a tensor or a list like {first}, got {type(other).__name__} and "
                f"{type(one).__name__}"
            )
    lists = {name: [x] if isinstance(x, Tensor) else x for name, x in logits.items()}
    for name, tensors in lists.items():
        if not isinstance(tensors, (list, tuple)) or not all(
            isinstance(t, Tensor) for t in tensors
        ):
            raise TypeError(
                f"{op}: {name} must be a tensor or a list of them, got {type(tensors).__name__}"
            )
        if not tensors or len(tensors) != len(lists[first]):
            raise ValueError(
                f"{op}: {name} must hold one tensor per scale, as many as {first} and at least one, got "
                f"{len(tensors)} and {len(lists[first])}"
            )
        for t in tensors:
            check_dense(op, name, t)
            if not t.dtype.is_floating_point:
                raise TypeError(f"{op}: {name} must be a floating-point tensor, got {t.dtype}")
            if t.dtype != lists[first][0].dtype:
                raise TypeError(
                    f"{op}: {name} must have the dtype of {first}, {lists[first][0].dtype}, got {t.dtype}"
                )
            if t.numel() == 0 and (reduction == "mean" or "relativistic_average" in loss):
                raise ValueError(
                    f"{op}: {name} must not be empty (the mean is undefined), got shape {tuple(t.shape)}"
                )
    shapes = [[tuple(t.shape) for t in tensors] for tensors in lists.values()]
    if loss in ("relativistic", "relativistic_hinge") and shapes[0] != shapes[1]:
        raise ValueError(
            f"{op}: real_logits and fake_logits must have the same shape for loss={loss!r}, "
            f"got {shapes[0]} and {shapes[1]}"
        )
    return [[t.double() for t in tensors] for tensors in lists.values()]


def targets_of(
    op: str, loss: str, own: Any, real: float | None, fake: float | None, smoothing: float
) -> Any:
    """The loss's own targets, replaced by given ones and changed by label smoothing."""
    if own is None:
        if real is not None or fake is not None:
            raise ValueError(
                f"{op}: targets must be None for loss={loss!r}, which has none, got {real} and {fake}"
            )
        return None
    if real is not None and smoothing:
        raise ValueError(
            f"{op}: label_smoothing must be 0 if real_target is given, got {smoothing}"
        )
    return own._replace(
        real=own.real - smoothing if real is None else real, fake=own.fake if fake is None else fake
    )


def weights_of(op: str, weights: Any, listed: bool, scales: int) -> list[float]:
    if weights is None:
        return [1.0] * scales
    if isinstance(weights, Real) and math.isfinite(weights):
        return [float(weights)] * scales
    if not listed:
        raise ValueError(
            f"{op}: weights must be a finite number unless the logits are lists, got {weights!r}"
        )
    if isinstance(weights, str) or not isinstance(weights, Sequence):
        raise TypeError(
            f"{op}: weights must be a sequence of numbers, got {type(weights).__name__}"
        )
    if not all(isinstance(w, Real) for w in weights):
        raise TypeError(f"{op}: weights must be numbers, got {weights!r}")
    if len(weights) != scales or not all(math.isfinite(w) for w in weights):
        raise ValueError(
            f"{op}: weights must hold one finite number for each of the {scales} scale(s), got {weights!r}"
        )
    return [float(w) for w in weights]
