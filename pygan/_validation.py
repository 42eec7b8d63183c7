"""Shared argument checks. Messages have the form "op: argument must ..., got ..."."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, TypeGuard

import torch
from torch import Tensor

from pygan import _ops

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
"""The floating-point dtypes that torch computes in; the 8-bit ones are for storage."""


def counted(n: int, noun: str) -> str:
    """Number and noun, such as "1 image" or "2,000 images"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def tensors(op: str, argument: str, value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if not isinstance(value, (list, tuple)):
        raise TypeError(
            f"{op}: {argument} must be a tensor or a list of tensors, got {describe(value)}"
        )
    if not value:
        raise ValueError(f"{op}: {argument} must hold at least one tensor, got an empty list")
    for k, tensor in enumerate(value):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{op}: {argument}[{k}] must be a tensor, got {describe(tensor)}")
    return list(value)


def scales(op: str, argument: str, value: Any) -> list[Tensor]:
    """Logits: a tensor, or a list with one tensor per scale. Tuples, in which modules return several results, and lists
    of layers are refused, so that other outputs of a discriminator are not mistaken for scales."""
    if isinstance(value, tuple):
        raise TypeError(
            f"{op}: {argument} must be a tensor or a list of tensors, one for each scale, got {describe(value)}; "
            "select the logits from the discriminator's output, or pass a list if all of them are logits"
        )
    if isinstance(value, list):
        for k, layers in enumerate(value):
            if isinstance(layers, (list, tuple)):
                raise TypeError(
                    f"{op}: {argument}[{k}] must be a tensor, the logits of a scale, got {describe(layers)}; select "
                    "them from the discriminator's output: for lists of layers, [layers[-1] for layers in outputs]"
                )
    return tensors(op, argument, value)


def check_dense(op: str, argument: str, *given: Tensor) -> None:
    """Refuse sparse, nested and quantized tensors, on which torch has only some ops. Takes a third of a microsecond
    each: fast paths call it only after an op has raised NotImplementedError."""
    if _ops.is_compiling():  # Dynamo does not know all of these attributes
        return
    for x in given:
        if x.is_nested:
            got = "a nested one"
        elif x.is_quantized:
            got = f"a quantized one, {x.dtype}"
        elif x.layout is not torch.strided:
            got = f"one of layout {x.layout}"
        else:
            continue
        raise TypeError(f"{op}: {argument} must be a dense tensor, got {got}")


def check_float(op: str, argument: str, x: Tensor) -> None:
    """Refuse other dtypes than FLOATS, and tensors that are not dense."""
    check_dense(op, argument, x)
    if x.dtype not in FLOATS:
        raise TypeError(
            f"{op}: {argument} must be float32, float64, float16 or bfloat16, got {x.dtype}"
        )


def check_values(op: str, argument: str, x: Tensor) -> None:
    """Refuse tensors without values, and those that are not dense."""
    check_dense(op, argument, x)
    if x.is_meta:
        raise TypeError(f"{op}: {argument} must have values, got a tensor on the meta device")


def number(op: str, argument: str, value: Any) -> float:
    """The value as a float, which may be NaN or infinite; bools, strings and tensors are refused."""
    if type(value) is float:  # fast path: noise for a small batch takes only 10 us
        return value
    if not is_number(value):
        raise TypeError(f"{op}: {argument} must be a number, got {describe(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{op}: {argument} must be finite, got a number too large") from None
    except TypeError:  # NumPy counts durations among the integers
        raise TypeError(f"{op}: {argument} must be a number, got {describe(value)}") from None


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a real number, including NumPy scalars, but not a bool."""
    # float and int first: an isinstance check against Real takes some microseconds.
    return isinstance(value, (float, int, Real)) and not isinstance(value, bool)


def check_bool(op: str, argument: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{op}: {argument} must be a bool, got {describe(value)}")


def is_int(value: object, least: float = -math.inf) -> TypeGuard[int]:
    """Whether it is an int of at least `least`, and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_int(op: str, argument: str, value: Any, least: int = 1) -> None:
    if not is_int(value, least):
        raise ValueError(f"{op}: {argument} must be an int of at least {least}, got {value!r}")
    if value >= 1 << 63:
        raise ValueError(f"{op}: {argument} must be below 2**63, got a larger int")


def describe(value: Any) -> str:
    if isinstance(value, Tensor):
        if value.is_nested:  # has no shape
            return "a nested tensor"
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of length {len(value)}"
    return type(value).__name__
