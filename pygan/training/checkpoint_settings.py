"""The settings that affect training, which are saved in checkpoints and compared when a run is resumed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from pygan._validation import is_number
from pygan.average import EMA
from pygan.modules import InstanceNoise
from pygan.penalties import Penalty
from pygan.schedules import Schedule
from pygan.trainer import GANTrainer

__all__ = [
    "Changes",
    "Settings",
    "changes",
    "data_settings",
    "describe_changes",
    "described_by",
    "is_plain",
    "list_changes",
    "roots",
    "settings",
]

Settings = dict[str, Any]
"""Numbers, strings, booleans, None and lists of these, with names like "g_optimizer.lr" and "penalties[0].gamma"."""
Changes = Mapping[str, tuple[Any, Any]]
"""Settings that differ, by name: (before, now)."""

# The terms in which messages name changes: those of `fit`, or of a command that runs it.
_terms: ContextVar[Callable[[Changes], Changes]] = ContextVar("terms", default=dict)

_NOT_SETTINGS = ("generator", "discriminator", "seed", "scaler")
# Optimizer options that change how it computes, but not the result.
_IMPLEMENTATION = ("params", "foreach", "fused", "capturable", "differentiable", "initial_lr")
_MOMENTUM = ("momentum", "betas")
# State of a learning-rate scheduler that follows from the optimizer, or is its position.
_MOVING = ("base_lrs", "last_epoch", "T_cur", "T_i", "verbose")
_NESTED = ("_schedulers", "_milestones")
_PLAIN = (bool, int, float, str, type(None))


def settings(
    trainer: GANTrainer, options: Mapping[str, Any], lr_schedulers: Any, **others: Any
) -> Settings:
    """The settings of a run that has not started.

    Args:
        trainer: the newly created trainer.
        options: the arguments that it was created with, except for networks and optimizers.
        lr_schedulers: the user's schedulers.
        others: settings of `fit`, by name.
    """
    parameters = inspect.signature(GANTrainer).parameters
    tree: dict[str, Any] = dict(others)
    cycled = list(_cycled(lr_schedulers))
    for name, parameter in parameters.items():
        if name in ("g_optimizer", "d_optimizer"):
            optimizer = getattr(trainer, name)
            tree[name] = _optimizer(optimizer, any(optimizer is one for one in cycled))
        elif name not in _NOT_SETTINGS:
            tree[name] = options.get(name, parameter.default)
    # From the trainer, because the arguments accept several forms.
    tree["noise"] = None if trainer.noise is None else trainer.noise.schedule
    tree["penalties"] = list(trainer.penalties)
    tree["lr_schedulers"] = [
        {"type": _name(type(scheduler)), **_arguments_of(scheduler.state_dict())}
        for scheduler in lr_schedulers
    ]
    return dict(_flat("", tree))


def data_settings(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """The "data" table of a run's configuration. Of a path only the last component is kept, because folders are moved
    and a path can be written in several ways."""
    data = (config or {}).get("data")
    if not isinstance(data, dict):
        return {}
    name = data.get("name")
    return {**data, "name": Path(name).resolve().name} if isinstance(name, str) else data


def changes(now: Settings, before: Settings) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, by name: (before, now). Settings that only one of them has are not compared, because
    another version of torch or pygan may have more settings. (Options that are None and empty lists have entries.)"""
    return {
        name: (before[name], now[name])
        for name in before
        if name in now and not _equal(before[name], now[name])
    }


def is_plain(value: Any) -> bool:
    """Whether a value can be a single setting: a number, a string, a bool, None, or a non-empty list of these."""
    if type(value) is list:
        return value != [] and all(type(item) in _PLAIN for item in value)
    return type(value) in _PLAIN


def roots(names: Any) -> set[str]:
    """The options to which the settings with these names belong."""
    return {name.split(".")[0].split("[")[0] for name in names}


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Flatten a value into settings. Opaque objects are represented by their type, so that two functions count as
    equal."""
    if isinstance(value, Tensor) and value.numel() == 1:
        yield name, value.item()
    elif isinstance(value, (torch.dtype, torch.device)):
        yield name, str(value)
    elif is_plain(value):
        yield name, value
    elif is_number(value):  # of NumPy
        yield name, float(value)
    elif isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        for key, item in value.items():
            yield from _flat(f"{name}.{key}" if name else key, item)
    elif isinstance(value, Mapping):
        yield from _flat(name, sorted(value.items()))
    elif isinstance(value, tuple) and is_plain(list(value)):
        yield name, list(value)
    elif isinstance(value, (list, tuple)):
        yield f"{name}.length", len(value)
        for i, item in enumerate(value):
            yield from _flat(f"{name}[{i}]", item)
    elif isinstance(value, EMA):
        yield name, value.decay
    elif isinstance(value, InstanceNoise):
        yield from _flat(name, value.schedule)
    elif isinstance(value, ModuleType):
        yield name, value.__name__
    else:
        yield name, "a function" if inspect.isroutine(value) else _name(type(value))
        for key, item in _arguments(value):
            yield from _flat(f"{name}.{key}", item)


def _arguments(value: Any) -> Iterator[tuple[str, Any]]:
    """The constructor arguments of an object, as far as its attributes show them."""
    if isinstance(value, Schedule) or (isinstance(value, Penalty) and isinstance(value, nn.Module)):
        hidden = {*vars(nn.Module()), "count"}
        for key, item in vars(value).items():
            if key not in hidden:
                yield key.lstrip("_"), item
    elif is_dataclass(value) and not isinstance(value, AveragedModel):
        for field in fields(value):
            yield field.name, getattr(value, field.name)
    elif type(value).__module__.startswith("pygan."):
        for name in inspect.signature(type(value)).parameters:
            if is_plain(getattr(value, name, ...)):
                yield name, getattr(value, name)


def _cycled(lr_schedulers: Any) -> Iterator[Any]:
    """The optimizers whose momentum a scheduler changes, as OneCycleLR does."""
    for scheduler in lr_schedulers:
        yield from _cycled(getattr(scheduler, "_schedulers", ()))
        if getattr(scheduler, "cycle_momentum", False):
            yield getattr(scheduler, "optimizer", None)


def _optimizer(optimizer: Optimizer, is_cycled: bool) -> dict[str, Any]:
    groups = []
    # If a scheduler changes the momentum, its bounds are among the scheduler's settings.
    left_out = (*_IMPLEMENTATION, *(_MOMENTUM if is_cycled else ()))
    for group in optimizer.param_groups:
        kept = {key: value for key, value in group.items() if key not in left_out}
        # The initial learning rate, because a scheduler may already have changed the current one.
        kept["lr"] = group.get("initial_lr", group.get("lr"))
        groups.append(kept)
    about: dict[str, Any] = {"type": _name(type(optimizer)), "groups": len(groups)}
    return {
        **about,
        **(groups[0] if len(groups) == 1 else {f"group {i}": g for i, g in enumerate(groups)}),
    }


def _arguments_of(state: Any) -> Any:
    """The state of a learning-rate scheduler without its position; also of the schedulers that it contains, as
    SequentialLR does."""
    if isinstance(state, dict):
        kept = {}
        for key, value in state.items():
            if key not in _MOVING and (not str(key).startswith("_") or key in _NESTED):
                kept[key.lstrip("_") if key in _NESTED else key] = _arguments_of(value)
        return kept
    return [_arguments_of(item) for item in state] if isinstance(state, list) else state


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _equal(a: Any, b: Any) -> bool:
    return bool(a == b or (a != a and b != b))


@contextmanager
def described_by(terms: Callable[[Changes], Changes]) -> Iterator[None]:
    """A context in which messages name changes by the keys, and show the values, that `terms` returns for them."""
    token = _terms.set(terms)
    try:
        yield
    finally:
        _terms.reset(token)


def describe_changes(differ: Changes, whose: str) -> str:
    """A message with the values of the first setting that differs, and the names of the others."""
    (name, (before, now)), *others = _terms.get()(differ).items()
    also = f" (and so must {', '.join(other for other, _ in others)})" if others else ""
    return f"{name} must be that of {whose}, {_shown(name, before)}, got {_shown(name, now)}{also}"


def list_changes(changed: Changes) -> list[str]:
    """A text for each change."""
    return [
        f"{name} {_shown(name, now)} instead of {_shown(name, before)}"
        for name, (before, now) in _terms.get()(changed).items()
    ]


def _shown(name: str, value: Any) -> str:
    return f"{value} samples" if name == "data" and isinstance(value, int) else str(value)
