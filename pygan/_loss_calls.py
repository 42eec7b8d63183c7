"""Calls of the ops for the functions of :mod:`pygan.fused_losses`, after the argument checks, and their results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from pygan import _loss_arguments as arguments
from pygan import _ops
from pygan._loss_results import Logits, LossAndGrad, LossStats, parts_of, stats_of
from pygan._validation import check_bool

Weights: TypeAlias = float | Tensor | Sequence[float] | None


def loss(
    op: str,
    call: arguments.Call,
    weights: Weights,
    like: Logits,
    return_stats: bool,
    return_parts: bool,
) -> Any:
    factor = arguments.factor_of(op, weights, call[0][0])
    _check_wants(op, return_stats, return_parts)
    if call[arguments.REDUCTION] == arguments.NONE:
        return _unreduced(op, call, factor, like, return_stats, return_parts)
    try:
        value, numbers = _ops.gan_loss_unboxed(*_taken(call, return_stats, return_parts))
    except NotImplementedError:
        arguments.check_layouts(op, call)
        raise
    if factor is not None:
        value = value * factor
    if not return_stats and not return_parts:
        return value
    return _result(value, numbers, call, like, return_stats, return_parts)


def loss_and_grad(
    op: str,
    call: arguments.Call,
    weights: Weights,
    like: Logits,
    return_stats: bool,
    return_parts: bool,
) -> LossAndGrad:
    if call[arguments.REDUCTION] == arguments.NONE:
        raise ValueError(f'{op}: reduction must be mean or sum, got "none"')
    factor = arguments.factor_of(op, weights, call[0][0])
    _check_wants(op, return_stats, return_parts)
    taken = _taken(call, return_stats, return_parts)
    try:
        if factor is None:
            value, numbers, grads = _ops.gan_loss_and_grad_unboxed(*taken)
        else:
            # From the logits again: rounded once, by a number that only the device knows.
            with torch.no_grad():
                value, numbers = _ops.gan_loss(*taken)
                first = len(LossStats._fields) if return_stats else 0
                means = numbers[first : first + arguments.means_of(call)]
                grads = _ops.gan_loss_backward(factor, call[0], means, *call[1:])
                value = value * factor
    except NotImplementedError:
        arguments.check_layouts(op, call)
        raise
    stats = stats_of(numbers) if return_stats else None
    parts = parts_of(numbers, call, like) if return_parts else None
    return LossAndGrad(value, arguments.by_argument(grads, like), stats, parts)


def _check_wants(op: str, return_stats: object, return_parts: object) -> None:
    check_bool(op, "return_stats", return_stats)
    check_bool(op, "return_parts", return_parts)


def _taken(call: arguments.Call, stats: bool, parts: bool) -> tuple[Any, ...]:
    """What the op takes."""
    logits, roles, index, smoothing, weights, reduction, targets, detach_means = call
    return (
        *(logits, roles, index, smoothing, weights, reduction),
        *(stats, targets, detach_means, parts),
    )


def _result(
    value: Any,
    numbers: Tensor,
    call: arguments.Call,
    like: Logits,
    return_stats: bool,
    return_parts: bool,
) -> Any:
    result = [value]
    if return_stats:
        result.append(stats_of(numbers))
    if return_parts:
        result.append(parts_of(numbers, call, like))
    return tuple(result)


def _unreduced(
    op: str,
    call: arguments.Call,
    factor: Tensor | None,
    like: Logits,
    return_stats: bool,
    return_parts: bool,
) -> Any:
    if return_parts:
        raise ValueError(
            f'{op}: return_parts must be False for reduction="none", which returns the terms, got True'
        )
    arguments.check_layouts(op, call)
    terms = _terms(call, factor, like)
    if not return_stats:
        return terms
    # A sum, because it is also defined for empty logits.
    logits, roles, index, smoothing, weights, _, targets, detach_means = call
    logits = [x.detach() for x in logits]
    summed = (logits, roles, index, smoothing, weights, arguments.SUM, targets, detach_means)
    return terms, stats_of(_ops.gan_loss(*_taken(summed, True, False))[1])


def _terms(call: arguments.Call, factor: Tensor | None, like: Logits) -> Any:
    # Autograd handles differences and means; the kernel computes the form of the loss.
    logits, roles, index, smoothing, weights, _, targets, detach_means = call
    scales = 1 if isinstance(like, Tensor) else len(like)
    compared = arguments.compared(index)
    if compared != arguments.ALONE:
        arguments.check(call)
        math = torch.float64 if logits[0].dtype == torch.float64 else torch.float32
        first = [x.to(math) for x in logits[:scales]]
        second = [x.to(math) for x in logits[scales:]]
        if compared == arguments.PAIRED:
            logits = [a - b for a, b in zip(first, second, strict=True)]
            roles = roles[:scales]
        else:
            means = [
                [_mean(x.detach() if detach_means else x) for x in side] for side in (second, first)
            ]
            logits = [a - mean for a, mean in zip(first + second, means[0] + means[1], strict=True)]
    terms = _ops.gan_loss_terms(logits, roles, index, smoothing, 0, targets)
    if weights:
        terms = [t * weights[i % scales] for i, t in enumerate(terms)]
    if factor is not None:
        terms = [t * factor for t in terms]
    grouped = arguments.by_argument(terms, like)
    return grouped if len(grouped) > 1 else grouped[0]


def _mean(x: Tensor) -> Tensor:
    # Not torch's, whose bits depend on the number of threads: what the Wasserstein generator maximizes.
    role, index = arguments.GENERATOR_FAKE, arguments.WASSERSTEIN
    return -_ops.gan_loss([x], [role], index, 0.0, [], arguments.MEAN, False)[0]
