"""The only interface from Python to the extension, including the check for torch.compile.

Each op is bound once, because looking up an overload costs a microsecond per call. Dynamo can trace only the registered
ops; eager code calls the extension directly, with all arguments, because for small tensors the dispatcher takes longer
to box the lists than the ops take to compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from pygan._build import _C

__all__ = [
    "backward",
    "feature_matching",
    "feature_matching_and_grad",
    "gan_loss",
    "gan_loss_and_grad_unboxed",
    "gan_loss_backward",
    "gan_loss_terms",
    "gan_loss_unboxed",
    "instance_noise_at",
    "instance_noise_out_unboxed",
    "instance_noise_unboxed",
    "is_compiling",
    "losses",
    "noise_advance",
    "noise_draw",
    "scalars",
]

_ops = torch.ops.pygan

feature_matching = _ops.feature_matching.default
feature_matching_and_grad = _ops.feature_matching_and_grad.default
gan_loss = _ops.gan_loss.default
gan_loss_backward = _ops.gan_loss_backward.default
gan_loss_terms = _ops.gan_loss_terms.default
instance_noise_at = _ops.instance_noise_at.default
losses = _C.losses
noise_advance = _ops.noise_advance.default
noise_draw = _ops.noise_draw.default

_gan_loss_and_grad = _ops.gan_loss_and_grad.default
_instance_noise = _ops.instance_noise.default
_instance_noise_out = _ops.instance_noise.out


def gan_loss_unboxed(*args: Any) -> tuple[Tensor, Tensor]:
    return (gan_loss if is_compiling() else _C.gan_loss)(*args)


def gan_loss_and_grad_unboxed(*args: Any) -> tuple[Tensor, Tensor, list[Tensor]]:
    return (_gan_loss_and_grad if is_compiling() else _C.gan_loss_and_grad)(*args)


def instance_noise_unboxed(*args: Any) -> list[Tensor]:
    return (_instance_noise if is_compiling() else _C.instance_noise)(*args)


def instance_noise_out_unboxed(*args: Any, out: list[Tensor]) -> None:
    (_instance_noise_out if is_compiling() else _C.instance_noise_out)(*args, out=out)


def backward(
    outputs: list[Tensor], grads: Sequence[Tensor | None], retain_graph: bool = False
) -> None:
    """torch.autograd.backward, calling the engine directly."""
    (torch.autograd.backward if is_compiling() else _C.backward)(outputs, grads, retain_graph)


def scalars(numbers: Tensor, count: int) -> tuple[Tensor, ...]:
    """The first elements of a vector, as 0-d views."""
    return tuple(numbers[:count].unbind() if is_compiling() else _C.scalars(numbers, count))
