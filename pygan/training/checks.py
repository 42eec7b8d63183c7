"""Checks of the arguments of `pygan.fit` other than its options, and of the results of callables."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from pygan.trainer import TrainStats

__all__ = ["check_networks", "check_unused", "checked_evaluation"]


def check_networks(**networks: nn.Module) -> None:
    """That each is a module, and not yet wrapped for several processes."""
    for name, network in networks.items():
        if not isinstance(network, nn.Module):
            raise TypeError(f"pygan.fit: {name} must be an nn.Module, got {type(network).__name__}")
        inner = getattr(network, "_orig_mod", network)  # of torch.compile's wrapper
        if isinstance(inner, (DistributedDataParallel, nn.DataParallel)):
            raise TypeError(
                f"pygan.fit: {name} must be the network itself, which fit wraps, got a {type(inner).__name__}"
            )


def check_unused(**optimizers: Optimizer) -> None:
    """That none has made a step: what it holds of its parameters would be lost with them."""
    for name, optimizer in optimizers.items():
        if isinstance(optimizer, Optimizer) and optimizer.state:
            raise ValueError(
                f"pygan.fit: {name} must not have made a step before the networks are sharded, got one with the "
                f"state of {len(optimizer.state)} parameters"
            )


def checked_evaluation(values: Any) -> dict[str, float]:
    """What the user's `evaluate` returned: numbers, whose names no statistic has."""
    if not isinstance(values, dict):
        raise TypeError(
            f"pygan.fit: evaluate must return a dict of numbers, got {type(values).__name__}"
        )
    taken = {"step", "sigma", "g_lr", "d_lr", "skipped", *TrainStats._fields}
    for name, value in values.items():
        if not isinstance(name, str) or name in taken or name.startswith("terms/"):
            raise ValueError(
                f"pygan.fit: evaluate must return names that no statistic has, got {name!r}"
            )
        try:
            values = {**values, name: float(value)}
        except (TypeError, ValueError):
            raise TypeError(
                f"pygan.fit: evaluate must return numbers, got {type(value).__name__} for {name!r}"
            ) from None
    return values
