"""The options of `pygan.fit`, checked before anything is built."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from pygan.checkpoint import check_plain
from pygan.trainer import GANTrainer, TrainStats
from pygan.training.nonfinite import POLICIES

__all__ = ["Options", "checked_trainer_options"]

_OWN = ("generator", "discriminator", "g_optimizer", "d_optimizer", "latent", "seed", "scaler")


@dataclass(frozen=True)
class Options:
    """What `fit` was given, but for the networks, the data and the trainer's options. See there."""

    steps: int
    batch_size: int
    out: Path
    lr_schedulers: Sequence[Any]
    mixed_precision: str | None
    sharded: bool
    seed: int | None
    workers: int
    drop_last: bool
    conditional: bool
    log_every: int
    checkpoint_every: int | None
    keep: int | None
    resume: str | os.PathLike[str] | None
    allow_changes: bool
    nonfinite: str
    sample_every: int | None
    samples: int
    preview: Callable[[Tensor], Any] | None
    evaluate: Callable[[Callable[[int], Tensor]], dict[str, float]] | None
    evaluate_every: int | None
    monitor: Any
    progress: bool | None
    tensorboard: bool
    config: dict[str, Any] | None
    accelerator: Any

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "samples"):
            _check_int(name, getattr(self, name), 1)
        for name in ("checkpoint_every", "keep", "sample_every", "evaluate_every"):
            if getattr(self, name) is not None:
                _check_int(name, getattr(self, name), 1, " or None")
        _check_int("workers", self.workers, 0)
        if self.seed is not None:
            _check_int("seed", self.seed, 0, " or None")
            if self.seed >= 1 << 64:
                raise ValueError(f"pygan.fit: seed must be below 2**64, got {self.seed}")
        for name in ("sharded", "drop_last", "conditional", "tensorboard", "allow_changes"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(
                    f"pygan.fit: {name} must be a bool, got {type(getattr(self, name)).__name__}"
                )
        if not (self.progress is None or isinstance(self.progress, bool)):
            raise TypeError(
                f"pygan.fit: progress must be a bool or None, got {type(self.progress).__name__}"
            )
        for name in ("preview", "evaluate"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise TypeError(
                    f"pygan.fit: {name} must be a callable or None, got {type(value).__name__}"
                )
        if self.mixed_precision not in (None, "no", "bf16", "fp16"):
            raise ValueError(
                f"pygan.fit: mixed_precision must be no, bf16, fp16 or None, got {self.mixed_precision!r}"
            )
        if self.nonfinite not in POLICIES:
            raise ValueError(
                f"pygan.fit: nonfinite must be {', '.join(POLICIES[:-1])} or {POLICIES[-1]}, got {self.nonfinite!r}"
            )
        if not (
            isinstance(self.monitor, bool)
            or callable(self.monitor)
            or callable(getattr(self.monitor, "update", None))
        ):
            raise TypeError(
                "pygan.fit: monitor must be a bool, a callable from the trainer to a monitor, or an object with "
                f"update(stats), got {type(self.monitor).__name__}"
            )
        if not (self.config is None or isinstance(self.config, dict)):
            raise TypeError(
                f"pygan.fit: config must be a dict or None, got {type(self.config).__name__}"
            )
        try:
            check_plain(self.config, "config")
        except TypeError as error:
            raise TypeError(f"pygan.fit: config must be plain data: {error}") from None
        if not (self.resume is None or isinstance(self.resume, (str, os.PathLike))):
            raise TypeError(
                f"pygan.fit: resume must be 'auto', a path or None, got {type(self.resume).__name__}"
            )


def checked_networks(**networks: nn.Module) -> None:
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


def checked_trainer_options(options: dict[str, Any]) -> int:
    """The number of discriminator steps in the options that go to GANTrainer, all of which it must know."""
    parameters = inspect.signature(GANTrainer).parameters
    known = sorted(set(parameters) - set(_OWN))
    for name in options:
        if name in known:
            continue
        if name == "scaler":
            raise TypeError(
                "pygan.fit: got an unexpected option 'scaler': mixed_precision='fp16' makes one"
            )
        every = [*known, *Options.__dataclass_fields__]
        close = difflib.get_close_matches(name, every, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise TypeError(
            f"pygan.fit: got an unexpected option {name!r}{hint} (GANTrainer's are {', '.join(known)})"
        )
    d_steps = options.get("d_steps", 1)
    _check_int("d_steps", d_steps, 1)
    return int(d_steps)


def checked_evaluation(values: Any) -> dict[str, float]:
    """What the user's `evaluate` returned: numbers, whose names no statistic has."""
    if not isinstance(values, dict):
        raise TypeError(
            f"pygan.fit: evaluate must return a dict of numbers, got {type(values).__name__}"
        )
    taken = {"step", "sigma", "g_lr", "d_lr", "skipped", *TrainStats._fields}
    for name, value in values.items():
        if not isinstance(name, str) or name in taken:
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


def _check_int(name: str, value: object, least: int, otherwise: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"pygan.fit: {name} must be an int{otherwise}, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"pygan.fit: {name} must be at least {least}{otherwise}, got {value}")
