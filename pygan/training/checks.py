"""Checks of the arguments of `pygan.fit` other than its options, and of the results of callables."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from pygan._trainer_checks import modules
from pygan.trainer import TrainStats

__all__ = ["check_networks", "check_unused", "checked_evaluation"]


def check_networks(**networks: nn.Module) -> None:
    """Check that each network is a module that is not yet wrapped for several processes."""
    modules("pygan.fit", **networks)
    for name, network in networks.items():
        inner = getattr(network, "_orig_mod", network)  # unwrap torch.compile
        if isinstance(inner, (DistributedDataParallel, nn.DataParallel)):
            raise TypeError(
                f"pygan.fit: {name} must be the network itself, which fit wraps, got a {type(inner).__name__}"
            )


def check_unused(**optimizers: Optimizer) -> None:
    """Check that no optimizer has made a step: sharding replaces the parameters, and the optimizer's state of them
    would be lost."""
    for name, optimizer in optimizers.items():
        if isinstance(optimizer, Optimizer) and optimizer.state:
            raise ValueError(
                f"pygan.fit: {name} must not have made a step before the networks are sharded, got one with the "
                f"state of {len(optimizer.state)} parameters"
            )


def checked_evaluation(values: Any) -> dict[str, float]:
    """Check the result of the user's `evaluate`: a dict of numbers whose names differ from those of the statistics."""
    if not isinstance(values, dict):
        raise TypeError(
            f"pygan.fit: evaluate must return a dict of numbers, got {type(values).__name__}"
        )
    taken = {"step", "sigma", "g_lr", "d_lr", "skipped", *TrainStats._fields}
    for name, value in values.items():
        if not isinstance(name, str) or name in taken or name.startswith("terms/"):
            raise ValueError(
                f"pygan.fit: evaluate must return names that differ from those of the statistics, got {name!r}"
            )
        try:
            values = {**values, name: float(value)}
        except (TypeError, ValueError, RuntimeError):  # a tensor on meta has no value
            raise TypeError(
                f"pygan.fit: evaluate must return numbers, got {type(value).__name__} for {name!r}"
            ) from None
    return values
