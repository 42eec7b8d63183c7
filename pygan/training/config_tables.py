"""The tables of a configuration: what they hold, what they stand for, and what is checked in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pygan.penalties import Penalty
from pygan.schedules import Schedule
from pygan.training.config_objects import named, penalty_of, schedule_of, with_schedules
from pygan.training.config_train import check_train
from pygan.training.config_values import ConfigError, check_arguments, check_range, shown
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

    def options(self) -> dict[str, Any]:
        """What [train] says, as `fit` takes it."""
        return with_schedules("[train]", self.train, self.train["steps"])

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
        return schedule_of("[noise]", self.noise, self.train["steps"])

    def penalty_list(self) -> list[Penalty]:
        """What [[penalties]] describes."""
        return [penalty_of(table, self.train["steps"]) for table in self.penalties]


def config_of(tables: dict[str, Any]) -> Config:
    """The configuration that whole tables are, once all in them has been checked."""
    model, train = tables.get("model", {}), tables.get("train", {})
    check_train(train)
    arguments = dict(model)
    architecture = named("[model]", "architecture", ARCHITECTURES, arguments)
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
