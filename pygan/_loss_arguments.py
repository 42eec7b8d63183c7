"""Arguments of the functions of :mod:`pygan.fused_losses`: checked, and converted to the ops' form."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from pygan import _ops
from pygan._validation import check_bool, check_dense, describe, number, scales, tensors


class Loss(NamedTuple):
    """The properties of a loss, from csrc/math/losses.h."""

    name: str
    compared: int
    smooths: bool
    d_targets: bool
    g_target: bool
    probabilities: bool
    """Whether the targets are probabilities."""
    targets: tuple[float, float]
    """The discriminator's default targets of real and of fake logits."""

    @property
    def undecided(self) -> float:
        """The decision threshold: the logit halfway between the loss's own targets."""
        return sum(self.targets) / 2 if self.d_targets and not self.probabilities else 0.0


_TABLE = [Loss._make(row) for row in _ops.losses()]
LOSSES: tuple[str, ...] = tuple(row.name for row in _TABLE)
"""The accepted names of ``loss=``."""

_INDEX = {name: index for index, name in enumerate(LOSSES)}
_REDUCTIONS = {"mean": 0, "sum": 1, "none": 2}
MEAN, SUM, NONE = _REDUCTIONS.values()
# What a logit is compared with (csrc/math/losses.h, enum Compared).
ALONE, PAIRED, TO_MEAN = 0, 1, 2
# What a tensor of logits is to the op (enum Role).
REAL, FAKE, GENERATOR_FAKE, GENERATOR_REAL = 0, 1, 2, 3
_NAMES = ("real_logits", "fake_logits", "fake_logits", "real_logits")
WASSERSTEIN = _INDEX["wasserstein"]

# The arguments of gan_loss: logits (all of the first argument, then all of the second), roles, loss,
# label_smoothing, weights, reduction, targets, detach_means. A plain tuple, because creating a NamedTuple costs a
# microsecond.
Call: TypeAlias = tuple[
    list[Tensor], list[int], int, float, tuple[float, ...], int, tuple[float, ...], bool
]
REDUCTION = 5  # its index in a Call
# The options of a call: loss, label_smoothing, reduction, weights, targets of the first and the
# second argument (None: the loss's own), detach_means.
Options: TypeAlias = tuple[Any, Any, Any, Any, Any, Any, Any]


def compared(index: int) -> int:
    return _TABLE[index].compared


def means_of(call: Call) -> int:
    """How many means the forward pass saves for the backward pass: kMeans per scale (csrc/launch/loss.h)."""
    return 4 * len(call[0]) // 2 if compared(call[2]) == TO_MEAN else 0


def info(loss: Any, op: str = "pygan.fused_losses") -> Loss:
    return _TABLE[_choice(op, "loss", loss, _INDEX)]


def discriminator(op: str, real_logits: Any, fake_logits: Any, options: Options) -> Call:
    """Checks everything except dtypes, devices and sizes, which the op checks."""
    real, fake = scales(op, "real_logits", real_logits), scales(op, "fake_logits", fake_logits)
    count = len(fake)
    _check_alike(op, real_logits, fake_logits, real, fake)
    return _call(op, real + fake, [REAL] * count + [FAKE] * count, fake_logits, options)


def side(op: str, real: bool, logits: Any, options: Options) -> Call:
    """The discriminator's loss of one side alone."""
    loss = info(options[0], op)
    if loss.compared != ALONE:
        raise ValueError(
            f'{op}: loss must not compare real with fake logits, got "{loss.name}"; discriminator_loss takes both'
        )
    given = scales(op, "real_logits" if real else "fake_logits", logits)
    return _call(op, given, [REAL if real else FAKE] * len(given), logits, options)


def generator(op: str, fake_logits: Any, real_logits: Any, options: Options) -> Call:
    fake, loss = scales(op, "fake_logits", fake_logits), info(options[0], op)
    roles = [GENERATOR_FAKE] * len(fake)
    if loss.compared == ALONE:
        if real_logits is not None:
            raise ValueError(
                f'{op}: real_logits must be None for loss="{loss.name}", which does not compare real and '
                f"fake, got {describe(real_logits)}"
            )
        return _call(op, fake, roles, fake_logits, options)
    if real_logits is None:
        raise ValueError(
            f'{op}: real_logits must be given for loss="{loss.name}", which compares fake with real '
            "logits, got None"
        )
    real = scales(op, "real_logits", real_logits)
    _check_alike(op, real_logits, fake_logits, real, fake)
    roles += [GENERATOR_REAL] * len(fake)
    return _call(op, fake + real, roles, fake_logits, options)


def _call(op: str, logits: list[Tensor], roles: list[int], like: Any, options: Options) -> Call:
    loss, label_smoothing, reduction, weights, first, second, detach_means = options
    index = _choice(op, "loss", loss, _INDEX)
    reduce = _choice(op, "reduction", reduction, _REDUCTIONS)
    smoothing = number(op, "label_smoothing", label_smoothing)
    if smoothing != 0.0:
        _check_smoothing(op, loss, index, smoothing)
    targets: tuple[float, ...] = ()
    if first is not None or second is not None:
        targets = _targets(op, _TABLE[index], roles, smoothing, first, second)
        smoothing = 0.0
    check_bool(op, "detach_means", detach_means)
    if detach_means and compared(index) != TO_MEAN:
        raise ValueError(
            f'{op}: detach_means must be False for loss="{loss}", which uses no means, got True'
        )
    numbers = () if weights is None or isinstance(weights, Tensor) else _weights(op, weights, like)
    return logits, roles, index, smoothing, numbers, reduce, targets, detach_means


def _targets(
    op: str, loss: Loss, roles: list[int], smoothing: float, first: Any, second: Any
) -> tuple[float, ...]:
    generates = roles[0] == GENERATOR_FAKE
    both = roles[0] != roles[-1] and not generates
    names = ("real_target", "fake_target") if both else ("target", "target")
    for name, value in zip(names, (first, second)):
        if value is None:
            continue
        if not (loss.g_target if generates else loss.d_targets):
            who = "the generator" if generates else "the discriminator"
            raise ValueError(
                f'{op}: {name} must be None for loss="{loss.name}", where {who} has no target, got {value}'
            )
        target = number(op, name, value)
        if loss.probabilities and not 0.0 <= target <= 1.0:
            raise ValueError(
                f'{op}: {name} must be from 0 to 1 for loss="{loss.name}", got {target}'
            )
        if not -math.inf < target < math.inf:
            raise ValueError(f"{op}: {name} must be finite, got {target}")
    if generates:
        return (float(first),)
    if first is not None and smoothing != 0.0:
        raise ValueError(f"{op}: label_smoothing must be 0 if {names[0]} is given, got {smoothing}")
    own_real, own_fake = loss.targets
    real = own_real - smoothing if first is None else float(first)
    return real, own_fake if second is None else float(second)


def _check_alike(
    op: str, real_logits: Any, fake_logits: Any, real: list[Tensor], fake: list[Tensor]
) -> None:
    if isinstance(real_logits, Tensor) != isinstance(fake_logits, Tensor) or len(real) != len(fake):
        raise ValueError(
            f"{op}: real_logits and fake_logits must both be tensors, or lists of the same "
            f"length, got {describe(real_logits)} and {describe(fake_logits)}"
        )


def factor_of(op: str, weights: Any, logits: Tensor) -> Tensor | None:
    """A tensor weight of the whole loss, checked to be 0-d and on the logits' device; None for other weights."""
    if not isinstance(weights, Tensor):
        return None
    if not weights.is_floating_point():
        raise TypeError(f"{op}: weights must be floating-point, got a tensor of {weights.dtype}")
    if weights.dim() != 0:
        raise ValueError(
            f"{op}: weights must be 0-d if given as a tensor, got {describe(weights)}; for one weight per scale pass "
            'a list of numbers, for one per sample multiply the terms of reduction="none"'
        )
    if weights.device != logits.device:
        raise ValueError(
            f"{op}: weights must be on the device of the logits, {logits.device}, got {weights.device}"
        )
    return weights.to(torch.float64 if logits.dtype == torch.float64 else torch.float32)


def check(call: Call) -> None:
    """Makes gan_loss check a call whose terms are computed without it."""
    logits = [x.detach() for x in call[0]]
    if all(x.device == logits[0].device for x in logits):
        logits = [torch.empty_like(x, device="meta") for x in logits]
    _ops.gan_loss(logits, *call[1:REDUCTION], SUM, False, *call[REDUCTION + 1 :])


def check_layouts(op: str, call: Call) -> None:
    """Refuses logits that are not dense, for which the ops have no kernels."""
    for x, role in zip(call[0], call[1], strict=True):
        check_dense(op, _NAMES[role], x)


def by_argument(tensors: Sequence[Tensor], like: Any) -> tuple[Any, ...]:
    """Groups tensors in the order of a call's logits by argument: tensors, or lists like `like`."""
    if isinstance(like, Tensor):
        return tuple(tensors)
    scales = len(like)
    return tuple(list(tensors[i : i + scales]) for i in range(0, len(tensors), scales))


def paired(
    op: str, logits: Sequence[Any], grads: Sequence[Any]
) -> tuple[list[Tensor], list[Tensor]]:
    """The tensors of some of a call's arguments and their gradients, checked to match."""
    if not 1 <= len(logits) <= len(grads):
        raise ValueError(f"{op}: logits must be 1 to {len(grads)} arguments, got {len(logits)}")
    outputs: list[Tensor] = []
    gradients: list[Tensor] = []
    for i, (given, grad) in enumerate(zip(logits, grads)):
        found = tensors(op, f"logits[{i}]", given)
        wanted = [grad] if isinstance(grad, Tensor) else grad
        if isinstance(given, Tensor) != isinstance(grad, Tensor) or len(found) != len(wanted):
            raise ValueError(
                f"{op}: logits[{i}] must be the loss's logits, {describe(grad)}, got {describe(given)}"
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
                f"{op}: {name} must require a gradient, got a tensor that does not; omit logits that need no "
                "gradient, or compute them without torch.no_grad()"
            )
        outputs += found
        gradients += wanted
    return outputs, gradients


def _kind(x: Tensor) -> str:
    return f"{tuple(x.shape)}, {x.dtype}, {x.device}"


def _check_smoothing(op: str, loss: str, index: int, smoothing: float) -> None:
    if not 0.0 <= smoothing <= 1.0:
        raise ValueError(f"{op}: label_smoothing must be from 0 to 1, got {smoothing}")
    if not _TABLE[index].smooths:
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
            f"{op}: weights must be a number, a 0-d tensor, or a list of numbers, one for each scale, got "
            f"{describe(weights)}"
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
