"""Feature matching: the distance between a discriminator's feature maps of generated and of real samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from pygan import _ops
from pygan._compile import compiled_since_2_8
from pygan._validation import check_bool, check_dense, describe, number

__all__ = ["feature_matching", "feature_matching_and_grad"]

Features: TypeAlias = Tensor | Sequence["Features"]
"""A tensor or a nested list of tensors, as the discriminators return them."""

_OP = "pygan.fused_losses.feature_matching"
_NORMS = {"l1": 0, "l2": 1}


@compiled_since_2_8
def feature_matching(
    fake_features: Features,
    real_features: Features,
    *,
    norm: str = "l1",
    reduction: str = "sum",
    weights: Any = None,
    relative: bool = False,
    detach_real: bool = True,
    return_parts: bool = False,
) -> Any:
    r"""The mean of \|fake - real\| over each feature map, summed over the maps (Larsen et al. 2016, section 2.2; Wang
    et al. 2018a, pix2pixHD, equation 4; Kong et al. 2020, HiFi-GAN, equation 8).

        loss = feature_matching(fake_features, real_features, weights=2)                 # HiFi-GAN, BigVGAN
        loss = feature_matching(fake_features, real_features, reduction="mean", relative=True)  # EnCodec's paper

    The loss takes one pass over both lists, and the gradient another; on the CPU one pass computes both. A factor in
    `weights` is free there, while multiplying the result costs a pass over the gradient.

    Args:
        fake_features: feature maps of the generated samples: a tensor of any shape, or a list or tuple of tensors,
            nested to any depth (one list per discriminator). float32, float64, float16 or bfloat16, possibly mixed.
        real_features: feature maps of the real samples, with the same structure, shapes and dtypes.
        norm: "l1", the mean of \|d\| with d = fake - real; or "l2", the mean of d².
        reduction: "sum" of the maps' values, or their "mean".
        weights: factors of the maps' values: a number, or a list with one number for each entry of `fake_features`.
            For an entry that is itself a list, give a number for all of its maps, or a list.
        relative: divide each map's value by the mean of \|real\| over the map, which is never differentiated.
        detach_real: do not compute a gradient for the real maps.
        return_parts: also return the values of the maps.

    Returns:
        The loss, a 0-d float32 tensor (float64 if any map is float64). With `return_parts`, the pair of the loss and
        the maps' values before weights and reduction, a detached tensor of shape (maps,), in the order of the lists.

    Raises:
        TypeError: an entry that is not a floating-point tensor or a list; dtypes that differ within a pair; flags
            that are not bools.
        ValueError: structures, shapes or devices that differ; an empty map; an unknown norm or reduction; weights that
            are not finite or have another structure.
    """
    flags = {"relative": relative, "detach_real": detach_real, "return_parts": return_parts}
    fake, real, factors, distance = _parse(
        fake_features, real_features, norm, reduction, weights, flags
    )
    if detach_real:
        real = [x.detach() for x in real]
    try:
        loss, values, _, _ = _ops.feature_matching(fake, real, factors, distance, relative, False)
    except NotImplementedError:
        _check_layouts(fake, real)
        raise
    return (loss, values) if return_parts else loss


@compiled_since_2_8
@torch.no_grad()
def feature_matching_and_grad(
    fake_features: Features,
    real_features: Features,
    *,
    norm: str = "l1",
    reduction: str = "sum",
    weights: Any = None,
    relative: bool = False,
    return_parts: bool = False,
) -> Any:
    """:func:`feature_matching` and its gradient with respect to the fake maps, without autograd.

    Returns:
        (loss, grads): grads has the structure of `fake_features`, as lists. Propagate them with
        ``torch.autograd.backward(maps, grads)``, after flattening nested lists. With `return_parts`,
        (loss, grads, values).

    Raises:
        TypeError, ValueError: as for :func:`feature_matching`.
    """
    flags = {"relative": relative, "return_parts": return_parts}
    fake, real, factors, distance = _parse(
        fake_features, real_features, norm, reduction, weights, flags
    )
    try:
        loss, values, _, flat = _ops.feature_matching_and_grad(
            fake, real, factors, distance, relative
        )
    except NotImplementedError:
        _check_layouts(fake, real)
        raise
    grads = _nested(fake_features, iter(flat))
    return (loss, grads, values) if return_parts else (loss, grads)


def _check_layouts(fake: list[Tensor], real: list[Tensor]) -> None:
    check_dense(_OP, "fake_features", *fake)
    check_dense(_OP, "real_features", *real)


def _parse(
    fake_features: Any,
    real_features: Any,
    norm: Any,
    reduction: Any,
    weights: Any,
    flags: dict[str, Any],
) -> tuple[list[Tensor], list[Tensor], list[float], int]:
    if not isinstance(norm, str) or norm not in _NORMS:
        raise ValueError(f"{_OP}: norm must be one of {', '.join(_NORMS)}, got {norm!r}")
    if not isinstance(reduction, str) or reduction not in ("sum", "mean"):
        raise ValueError(f"{_OP}: reduction must be sum or mean, got {reduction!r}")
    for name, value in flags.items():
        check_bool(_OP, name, value)
    fake: list[Tensor] = []
    real: list[Tensor] = []
    factors: list[float] = []
    _collect("", fake_features, real_features, weights, fake, real, factors)
    if not fake:
        raise ValueError(f"{_OP}: fake_features must hold at least one map, got an empty list")
    if reduction == "mean":
        factors = [factor / len(fake) for factor in factors]
    return fake, real, factors, _NORMS[norm]


def _collect(
    where: str,
    fake: Any,
    real: Any,
    weights: Any,
    fakes: list[Tensor],
    reals: list[Tensor],
    factors: list[float],
) -> None:
    """Adds the maps of both lists, and their weights, in order; `where` is the index of this entry in the lists."""
    if isinstance(fake, Tensor) and isinstance(real, Tensor):
        fakes.append(fake)
        reals.append(real)
        factors.append(_weight(where, weights))
        return
    for name, value in (("fake_features", fake), ("real_features", real)):
        if not isinstance(value, (list, tuple, Tensor)):
            raise TypeError(
                f"{_OP}: {name}{where} must be a tensor or a list of them, got {describe(value)}"
            )
    if isinstance(fake, Tensor) or isinstance(real, Tensor) or len(fake) != len(real):
        raise ValueError(
            f"{_OP}: real_features{where} must have the structure of fake_features{where}, {describe(fake)}, "
            f"got {describe(real)}"
        )
    listed = isinstance(weights, (list, tuple))
    each = weights if listed else [_weight(where, weights)] * len(fake)
    if len(each) != len(fake):
        raise ValueError(
            f"{_OP}: weights{where} must be a number, or a list with one for each of the {len(fake)} entries of "
            f"fake_features{where}, got {describe(weights)}"
        )
    for i, (f, r, w) in enumerate(zip(fake, real, each)):
        _collect(f"{where}[{i}]", f, r, w, fakes, reals, factors)


def _weight(where: str, weights: Any) -> float:
    factor = 1.0 if weights is None else number(_OP, f"weights{where}", weights)
    if not math.isfinite(factor):
        raise ValueError(f"{_OP}: weights{where} must be finite, got {factor}")
    return factor


def _nested(like: Any, tensors: Iterator[Tensor]) -> Any:
    return next(tensors) if isinstance(like, Tensor) else [_nested(x, tensors) for x in like]
