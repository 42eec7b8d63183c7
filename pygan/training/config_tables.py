"""The tables of a configuration: what they hold, what they stand for, and what is checked in them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pygan import penalties, schedules
from pygan.penalties import Penalty
from pygan.schedules import Schedule
from pygan.training.config_train import check_train
from pygan.training.config_values import (
    ConfigError,
    check_arguments,
    check_range,
    first_line,
    shown,
)
from pygan.training.models import ARCHITECTURES

__all__ = ["Config", "DataTable", "OptimizerTable", "config_of"]

# Each size in [model]: beyond it memory runs out.
_MOST_MODEL = 1 << 16

# The keys of [data] that some data alone have; those of a folder of images are the rest.
_DATA_KEYS = {
    "ring": {"samples", "scale"},
    "grid": {"samples", "scale"},
    "digits": set[str](),
    "stacked-digits": {"samples"},
}
_FOLDER_KEYS = {"size", "channels", "background"}


@dataclass(frozen=True)
class DataTable:
    """[data]"""

    name: str = "digits"
    samples: int = 100_000
    """Of the mixtures and the stacked digits: the size of the training set."""
    scale: float = 1.0
    """Of the mixtures: the networks see points times this. They are judged as they are."""
    size: int = 32
    """Of a folder's images: height and width in pixels."""
    channels: int = 3
    """Of a folder's images: 3 for RGB, 1 for gray."""
    background: str = "white"
    """Of a folder's images: the color behind transparent pixels."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("[data] name must not be empty")
        check_range("[data] samples", self.samples, 1, 10**8)
        check_range("[data] scale", self.scale, 1e-6, 1e6)
        check_range("[data] size", self.size, 1, 4096)
        if self.channels not in (1, 3):
            raise ConfigError(f"[data] channels must be 1 or 3, got {self.channels}")
        its_keys = _DATA_KEYS.get(self.name, _FOLDER_KEYS)
        for option in fields(self):
            key, value = option.name, getattr(self, option.name)
            if key != "name" and key not in its_keys and value != option.default:
                raise ConfigError(f"[data] {key} has no effect on {self.name}, got {shown(value)}")


@dataclass(frozen=True)
class OptimizerTable:
    """[optimizer]: torch.optim.Adam for both networks."""

    lr: float = 2e-4
    d_lr: float | None = None
    """The discriminator's, where it differs."""
    betas: list[float] = field(default_factory=lambda: [0.0, 0.99])
    decay_from: float = 1.0
    """Share of the run after which the rates fall to 0, along half a cosine; 1: they stay."""

    def __post_init__(self) -> None:
        for key in ("lr", "d_lr"):
            value = getattr(self, key)
            if value is not None and value <= 0:
                raise ConfigError(f"[optimizer] {key} must be positive, got {value}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(
                f"[optimizer] betas must be two numbers from 0 to below 1, got {shown(self.betas)}"
            )
        check_range("[optimizer] decay_from", self.decay_from, 0, 1)


@dataclass(frozen=True)
class Config:
    """The tables of a run."""

    data: DataTable
    model: dict[str, Any]
    optimizer: OptimizerTable
    train: dict[str, Any]
    noise: dict[str, Any]
    penalties: list[dict[str, Any]]

    def plain(self) -> dict[str, Any]:
        """As dicts and lists, for checkpoints."""
        return asdict(self)

    def schedule(self) -> Schedule | None:
        """The schedule that [noise] describes; None without one."""
        if not self.noise:
            return None
        if self.noise.get("schedule") == "none":
            if len(self.noise) > 1:
                others = ", ".join(sorted(self.noise.keys() - {"schedule"}))
                raise ConfigError(
                    f'[noise] must have no other keys with schedule "none", got {others}'
                )
            return None
        return self._schedule("[noise]", self.noise)

    def penalty_list(self) -> list[Penalty]:
        """What [[penalties]] describes."""
        known = {n: getattr(penalties, n) for n in _classes(penalties, Penalty)}
        made = []
        for table in self.penalties:
            arguments = {
                key: self._schedule(f"[[penalties]] {key}", value)
                if isinstance(value, dict)
                else value
                for key, value in table.items()
            }
            kind = _named("[[penalties]]", "name", known, arguments)
            made.append(_made("[[penalties]]", kind, arguments))
        return made

    def _schedule(self, where: str, table: dict[str, Any]) -> Schedule:
        """A schedule from its name and arguments; it takes the whole run unless the table says otherwise."""
        known = {n: getattr(schedules, n) for n in _classes(schedules, Schedule)}
        arguments = dict(table)
        until = arguments.pop("until", None)
        kind = _named(where, "schedule", known, arguments)
        takes_steps = "steps" in inspect.signature(kind).parameters
        if until is not None:
            if not takes_steps or "steps" in arguments:
                why = "with steps" if takes_steps else f"for {kind.__name__}, which takes no steps"
                raise ConfigError(f"{where} until must be left out {why}, got {shown(until)}")
            if type(until) not in (int, float) or not 0 < until <= 1:
                raise ConfigError(
                    f"{where} until must be a share of the run, above 0 and at most 1, got {shown(until)}"
                )
        if takes_steps:
            share = 1.0 if until is None else until
            arguments.setdefault("steps", max(1, round(share * self.train["steps"])))
        made = _made(where, kind, arguments)
        assert isinstance(made, Schedule)
        return made


def config_of(tables: dict[str, Any]) -> Config:
    """The configuration that whole tables are, once all in them has been checked."""
    model, train = tables.get("model", {}), tables.get("train", {})
    check_train(train)
    arguments = dict(model)
    architecture = _named("[model]", "architecture", ARCHITECTURES, arguments)
    check_arguments("[model]", architecture, arguments, set_elsewhere={"shape"})
    for key, value in arguments.items():
        if type(value) is int:
            check_range(f"[model] {key}", value, 1, _MOST_MODEL)
    config = Config(
        data=_table(DataTable, "[data]", tables.get("data", {})),
        model=model,
        optimizer=_table(OptimizerTable, "[optimizer]", tables.get("optimizer", {})),
        train=train,
        noise=tables.get("noise", {}),
        penalties=tables.get("penalties", []),
    )
    config.schedule(), config.penalty_list()  # for what is wrong with them
    return config


def _table(kind: Callable[..., Any], name: str, given: dict[str, Any]) -> Any:
    check_arguments(name, kind, given)
    return kind(**given)


def _named(where: str, key: str, known: Mapping[str, Any], arguments: dict[str, Any]) -> Any:
    """What is called by the argument `key`, which is taken out."""
    name = arguments.pop(key, None)
    if not isinstance(name, str) or name not in known:
        got = "none" if name is None else shown(name)
        raise ConfigError(f"{where} {key} must be one of {', '.join(known)}, got {got}")
    return known[name]


def _made(where: str, kind: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    check_arguments(where, kind, arguments)
    try:
        return kind(**arguments)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: more than memory holds
        raise ConfigError(f"{where} {first_line(error)}") from None


def _classes(module: Any, base: type) -> list[str]:
    return [
        n for n in module.__all__ if (c := getattr(module, n)) is not base and inspect.isclass(c)
    ]
