"""What the functions of :mod:`pygan.fused_losses` were called with, checked and as the ops take it."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, TypeAlias

import torch
from torch import Tensor

from pygan._arguments import describe, number, tensors
from pygan._build import _C

_TABLE = _C.losses()
LOSSES: tuple[str, ...] = tuple(name for name, _, _ in _TABLE)
"""The names that ``loss=`` takes."""

_INDEX = {name: index for index, name in enumerate(LOSSES)}
_REDUCTIONS = {"mean": 0, "sum": 1, "none": 2}
MEAN, SUM, NONE = _REDUCTIONS.values()
# What a logit is compared with (csrc/math/losses.h, enum Compared).
ALONE, PAIRED, TO_MEAN = 0, 1, 2
# What a tensor of logits is to the op (enum Role).
_REAL, _FAKE, GENERATOR_FAKE, _GENERATOR_REAL = 0, 1, 2, 3
WASSERSTEIN = _INDEX["wasserstein"]

# The arguments of gan_loss: logits (all of the first argument, then all of the second), roles, loss,
# label_smoothing, weights, reduction. A plain tuple: one with names takes a microsecond of a small loss.
Call: TypeAlias = tuple[list[Tensor], list[int], int, float, tuple[float, ...], int]


def compared(index: int) -> int:
    return _TABLE[index][1]


def index_of(loss: Any, op: str = "pygan.fused_losses") -> int:
    return _choice(op, "loss", loss, _INDEX)


def parse(
    op: str,
    generator: bool,
    loss: Any,
    label_smoothing: Any,
    reduction: Any,
    weights: Any,
    real_logits: Any,
    fake_logits: Any,
) -> Call:
    """Everything but what the op itself checks: dtypes, devices and sizes."""
    index = index_of(loss, op)
    reduce = _choice(op, "reduction", reduction, _REDUCTIONS)
    smoothing = number(op, "label_smoothing", label_smoothing)
    if smoothing != 0.0:
        _check_smoothing(op, loss, index, smoothing)
    fake = tensors(op, "fake_logits", fake_logits)
    scales = len(fake)
    numbers = () if weights is None else _weights(op, weights, fake_logits)
    if generator and _TABLE[index][1] == ALONE:
        if real_logits is not None:
            raise ValueError(
                f'{op}: real_logits must be None for loss="{loss}", which does not compare real and '
                f"fake, got {describe(real_logits)}"
            )
        return fake, [GENERATOR_FAKE] * scales, index, smoothing, numbers, reduce
    if generator and real_logits is None:
        raise ValueError(
            f'{op}: real_logits must be given for loss="{loss}", which compares fake with real '
            "logits, got None"
        )
    real = tensors(op, "real_logits", real_logits)
    if isinstance(real_logits, Tensor) != isinstance(fake_logits, Tensor) or len(real) != scales:
        raise ValueError(
            f"{op}: real_logits and fake_logits must both be tensors, or lists of the same "
            f"length, got {describe(real_logits)} and {describe(fake_logits)}"
        )
    if generator:
        roles = [GENERATOR_FAKE] * scales + [_GENERATOR_REAL] * scales
        return fake + real, roles, index, smoothing, numbers, reduce
    roles = [_REAL] * scales + [_FAKE] * scales
    return real + fake, roles, index, smoothing, numbers, reduce


def parse_side(
    op: str,
    real: bool,
    loss: Any,
    label_smoothing: Any,
    reduction: Any,
    weights: Any,
    logits: Any,
) -> Call:
    """The same for the discriminator's loss of one side alone."""
    index = index_of(loss, op)
    if compared(index) != ALONE:
        raise ValueError(
            f'{op}: loss must not compare real with fake logits, got "{loss}"; discriminator_loss takes both'
        )
    smoothing = number(op, "label_smoothing", label_smoothing)
    if smoothing != 0.0:
        _check_smoothing(op, loss, index, smoothing)
    given = tensors(op, "real_logits" if real else "fake_logits", logits)
    numbers = () if weights is None else _weights(op, weights, logits)
    reduce = _choice(op, "reduction", reduction, _REDUCTIONS)
    return given, [_REAL if real else _FAKE] * len(given), index, smoothing, numbers, reduce


def check(call: Call) -> None:
    """What gan_loss would refuse, for terms that are made without it."""
    logits = [x.detach() for x in call[0]]
    if all(x.device == logits[0].device for x in logits):
        logits = [torch.empty_like(x, device="meta") for x in logits]
    torch.ops.pygan.gan_loss.default(logits, *call[1:5], SUM, False)


def by_argument(tensors: Sequence[Tensor], like: Any) -> tuple[Any, ...]:
    """Tensors in the order of a call's logits, as the arguments were: tensors, or lists like `like`."""
    if isinstance(like, Tensor):
        return tuple(tensors)
    scales = len(like)
    return tuple(list(tensors[i : i + scales]) for i in range(0, len(tensors), scales))


def paired(
    op: str, logits: Sequence[Any], grads: Sequence[Any]
) -> tuple[list[Tensor], list[Tensor]]:
    """The tensors of some of a call's arguments, and their gradients, each checked to be of the other."""
    if not 1 <= len(logits) <= len(grads):
        raise ValueError(f"{op}: logits must be 1 to {len(grads)} arguments, got {len(logits)}")
    outputs: list[Tensor] = []
    gradients: list[Tensor] = []
    for i, (given, grad) in enumerate(zip(logits, grads)):
        found = tensors(op, f"logits[{i}]", given)
        wanted = [grad] if isinstance(grad, Tensor) else grad
        if isinstance(given, Tensor) != isinstance(grad, Tensor) or len(found) != len(wanted):
            raise ValueError(
                f"{op}: logits[{i}] must be those of the loss, {describe(grad)}, got {describe(given)}"
            )
        for k, (x, g) in enumerate(zip(found, wanted)):
            alike = x.shape == g.shape and x.dtype == g.dtype and x.device == g.device
            if alike and x.requires_grad:
                continue
            name = f"logits[{i}]" if isinstance(given, Tensor) else f"logits[{i}][{k}]"
            if not alike:
                raise ValueError(
                    f"{op}: {name} must have the shape, dtype and device of its gradient, "
                    f"{_kind(g)}, got {_kind(x)}"
                )
            raise ValueError(
                f"{op}: {name} must require a gradient, got a tensor that does not; leave logits out "
                "of which nothing is learnt, or compute them without torch.no_grad()"
            )
        outputs += found
        gradients += wanted
    return outputs, gradients


def _kind(x: Tensor) -> str:
    return f"{tuple(x.shape)}, {x.dtype}, {x.device}"


def _check_smoothing(op: str, loss: str, index: int, smoothing: float) -> None:
    if not 0.0 <= smoothing <= 1.0:
        raise ValueError(f"{op}: label_smoothing must be from 0 to 1, got {smoothing}")
    if not _TABLE[index][2]:
        raise ValueError(
            f'{op}: label_smoothing must be 0 for loss="{loss}", which has no labels to smooth, '
            f"got {smoothing}"
        )


def _choice(op: str, argument: str, name: Any, known: dict[str, int]) -> int:
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"{op}: {argument} must be one of {', '.join(known)}, got {name!r}")
    return known[name]


def _weights(op: str, weights: Any, fake_logits: Any) -> tuple[float, ...]:
    alone = isinstance(fake_logits, Tensor)
    scales = 1 if alone else len(fake_logits)
    if not isinstance(weights, (list, tuple, Real)):
        raise TypeError(
            f"{op}: weights must be a number, or a list of them, one for each scale, got {describe(weights)}"
        )
    if isinstance(weights, Real):
        weight = number(op, "weights", weights)
        if not -math.inf < weight < math.inf:
            raise ValueError(f"{op}: weights must be finite, got {weight}")
        return (weight,) * scales
    if alone:
        raise ValueError(
            f"{op}: weights must be one number unless the logits are lists, got {describe(weights)}"
        )
    if len(weights) != scales:
        raise ValueError(
            f"{op}: weights must hold one number for each of the {scales} scale(s), got {len(weights)}"
        )
    numbers = tuple(number(op, f"weights[{k}]", weight) for k, weight in enumerate(weights))
    for k, weight in enumerate(numbers):
        if not -math.inf < weight < math.inf:
            raise ValueError(f"{op}: weights[{k}] must be finite, got {weight}")
    return numbers
