"""Finds non-finite values in a trainer's state."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from pygan._parallel import unwrapped
from pygan.trainer import GANTrainer

__all__ = ["all_finite", "broken_parts"]


def broken_parts(trainer: GANTrainer | dict[str, Any]) -> list[str]:
    """The parts of a trainer, or of its state dict, that contain non-finite values.

    Parameters and optimizer states must be finite. Buffers and frozen parameters must not be NaN, but may be infinite,
    as masks are; in a state dict, which does not distinguish them, that applies to all parameters. Synchronizes with
    the device.
    """
    parts = _state_parts(trainer) if isinstance(trainer, dict) else _trainer_parts(trainer)
    broken = []
    for name, tensors, is_allowed in parts:
        if not all(map(is_allowed, _max_magnitudes(tensors))) and name not in broken:
            broken.append(name)
    return broken


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no value is NaN or infinite. Synchronizes with the device."""
    return all(map(math.isfinite, _max_magnitudes(tensors)))


_Part = tuple[str, Iterable[Tensor], Callable[[float], bool]]


def _not_nan(value: float) -> bool:
    return not math.isnan(value)


def _trainer_parts(trainer: GANTrainer) -> Iterator[_Part]:
    networks = {
        "the generator": unwrapped(trainer.generator),
        "the discriminator": unwrapped(trainer.discriminator),
        "the average": None if trainer.ema is None else trainer.ema.module,
    }
    for name, network in networks.items():
        if network is not None:
            trained = [p for p in network.parameters() if p.requires_grad]
            frozen = [p for p in network.parameters() if not p.requires_grad]
            yield name, trained, math.isfinite
            yield name, [*frozen, *network.buffers()], _not_nan
    yield "g_optimizer", _tensors(trainer.g_optimizer.state), math.isfinite
    yield "d_optimizer", _tensors(trainer.d_optimizer.state), math.isfinite
    # Once the averages are NaN, every later loss is.
    for name, owner in (("the loss", trainer.loss), *(("a penalty", p) for p in trainer.penalties)):
        state_dict = getattr(owner, "state_dict", None)
        if callable(state_dict):
            yield name, _tensors(state_dict()), _not_nan


def _state_parts(state: dict[str, Any]) -> Iterator[_Part]:
    for name in ("generator", "discriminator", "ema", "loss"):
        yield name, _tensors(state.get(name)), _not_nan
    for name in ("g_optimizer", "d_optimizer"):
        optimizer = state.get(name)
        # The options of an optimizer may be infinite.
        held = optimizer.get("state") if isinstance(optimizer, dict) else None
        yield name, _tensors(held), math.isfinite


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, float):
        yield torch.tensor(value, dtype=torch.float64)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


_DTYPES: tuple[torch.dtype, ...] = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_DTYPES += (torch.complex64, torch.complex128)


@torch.no_grad()
def _max_magnitudes(tensors: Iterable[Tensor]) -> Iterator[float]:
    """The largest magnitude among the floating-point tensors on each device; NaN if any value is NaN. Of sharded
    tensors, only the local shard."""
    by_device: dict[torch.device, list[Tensor]] = defaultdict(list)
    for x in tensors:
        local: Tensor = x.to_local() if hasattr(x, "to_local") else x
        dense = local.layout == torch.strided and not local.is_meta
        if dense and local.dtype in _DTYPES and local.numel():
            by_device[local.device].append(local.detach())
    for same in by_device.values():
        # Not the Euclidean norm, which is infinite for large finite values.
        yield float(torch.stack(torch._foreach_norm(same, math.inf)).amax())
