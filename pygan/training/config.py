"""The configuration of a run of `pygan train`: TOML, on top of the recipe of its data.

[data]
name = "ring"                    # ring, grid, digits, stacked-digits, or a folder of images
[model]
architecture = "mlp"             # or dcgan; the other keys are arguments of that function
latent = 2
width = 128
[optimizer]                      # Adam, for both networks
lr = 1e-3
d_lr = 2e-3                      # where the discriminator's differs
[train]                          # arguments of pygan.fit and pygan.GANTrainer
steps = 10_000
loss = "relativistic"
[noise]                          # a class of pygan.schedules and its arguments
schedule = "Cosine"
start = 0.5
end = 0.0
until = 0.8                      # for `steps`: this share of the run's
[[penalties]]                    # classes of pygan.penalties and their arguments
name = "R1"
gamma = 1.0
"""

from __future__ import annotations

import difflib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from pygan import penalties, schedules
from pygan.penalties import Penalty
from pygan.schedules import Schedule
from pygan.trainer import GANTrainer
from pygan.training.fit import fit
from pygan.training.models import ARCHITECTURES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Config", "ConfigError", "as_toml", "load", "override", "recipes"]

# What `fit` takes from the other tables, or from the command line.
_NOT_IN_TRAIN = {
    *(
        "generator",
        "discriminator",
        "data",
        "g_optimizer",
        "d_optimizer",
        "latent",
        "lr_schedulers",
        "out",
    ),
    *(
        "resume",
        "preview",
        "evaluate",
        "config",
        "accelerator",
        "noise",
        "penalties",
        "scaler",
    ),
    *("generator_inputs", "augment", "conditional", "trainer_options"),
}


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the file, the table and the key."""


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
        if len(self.betas) != 2 or not all(isinstance(b, (int, float)) for b in self.betas):
            raise ValueError(f"betas must be two numbers, got {self.betas}")


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
        return None if self.noise.get("schedule", "none") == "none" else self._schedule(self.noise)

    def penalty_list(self) -> list[Penalty]:
        """What [[penalties]] describes."""
        known = {n: getattr(penalties, n) for n in _classes(penalties, Penalty)}
        made = []
        for table in self.penalties:
            arguments = {
                key: self._schedule(value) if isinstance(value, dict) else value
                for key, value in table.items()
            }
            name = arguments.pop("name", None)
            made.append(_made("[[penalties]]", "name", name, known, arguments))
        return made

    def _schedule(self, table: dict[str, Any]) -> Schedule:
        """A schedule from its name and arguments; it takes the whole run unless the table says otherwise."""
        known = {n: getattr(schedules, n) for n in _classes(schedules, Schedule)}
        arguments = dict(table)
        name = arguments.pop("schedule", None)
        until = arguments.pop("until", 1.0)
        if name in known and "steps" in inspect.signature(known[name]).parameters:
            arguments.setdefault("steps", max(1, round(until * self.train["steps"])))
        made = _made(
            "[noise]" if table is self.noise else "gamma", "schedule", name, known, arguments
        )
        assert isinstance(made, Schedule)
        return made


def load(
    data: str | None = None, path: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> Config:
    """The recipe of the data, overwritten by the file at `path`, and that by `overrides` (nested tables).

    Args:
        data: what [data] name is to be; None: what the file says.

    Raises:
        ConfigError: an unknown table or key, a value of the wrong type, or a file that is no TOML.
    """
    given = {} if path is None else _read(path)
    where = "the configuration" if path is None else str(path)
    merged = _merged(given, overrides or {})
    if data is not None:
        merged = _merged(merged, {"data": {"name": data}})
    try:
        name = str(merged.get("data", {}).get("name", DataTable.name))
        recipe = _merged(_recipe(name), {"data": {"name": name}})
        return _config(_merged(recipe, merged))
    except ConfigError as error:
        raise ConfigError(f"pygan train: {where}: {error}") from None


def override(overrides: dict[str, Any], given: str) -> None:
    """Puts ``table.key=value`` into the nested tables; the value is TOML's, or else a string.

    Raises:
        ConfigError: it does not look like this.
    """
    name, equals, text = given.partition("=")
    table, dot, key = name.strip().partition(".")
    if not equals or not dot:
        raise ConfigError(f"pygan train: --set must be given TABLE.KEY=VALUE, got {given!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    overrides.setdefault(table, {})[key] = value


def as_toml(config: Config) -> str:
    """The configuration as a file for `--config`."""
    lines = []
    for name, table in config.plain().items():
        for entry in table if isinstance(table, list) else [table]:
            lines.append(f"[[{name}]]" if isinstance(table, list) else f"[{name}]")
            # Numbers, strings, booleans and lists of them look alike in JSON and TOML.
            lines += [f"{k} = {json.dumps(v)}" for k, v in entry.items() if v is not None]
            lines.append("")
    return "\n".join(lines)


def recipes() -> list[str]:
    """The data that a recipe is there for, but for folders of images."""
    folder = resources.files("pygan.training") / "recipes"
    names = (entry.name for entry in folder.iterdir())
    return sorted(n[:-5] for n in names if n.endswith(".toml") and n != "images.toml")


def _recipe(name: str) -> dict[str, Any]:
    file = f"{name if name in recipes() else 'images'}.toml"
    return tomllib.loads((resources.files("pygan.training") / "recipes" / file).read_text("utf-8"))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"pygan train: cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"pygan train: {path} must be TOML: {error}") from error


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Table by table, key by key. A list, as [[penalties]], replaces the one below; so does [noise] with a schedule,
    and [model] with an architecture, whose other keys belong to it."""
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        if not isinstance(value, Mapping) or not isinstance(old, Mapping):
            merged[name] = value
        elif "schedule" in value or value.get("architecture", old.get("architecture")) != old.get(
            "architecture"
        ):
            merged[name] = dict(value)
        else:
            merged[name] = {**old, **value}
    return merged


def _config(tables: dict[str, Any]) -> Config:
    for name, table in tables.items():
        _known("table", name, [f.name for f in fields(Config)])
        kind = list if name == "penalties" else dict
        if not isinstance(table, kind) or not all(
            isinstance(entry, dict) for entry in (table if kind is list else ())
        ):
            raise ConfigError(f"[{name}] must be a {'list of tables' if kind is list else 'table'}")
    train = tables.get("train", {})
    allowed = {*inspect.signature(fit).parameters, *inspect.signature(GANTrainer).parameters}
    for key in train:
        _known("key of [train]", key, sorted(allowed - _NOT_IN_TRAIN))
    for key in ("steps", "batch_size"):
        if not isinstance(train.get(key), int):
            raise ConfigError(f"[train] {key} must be an int, got {train.get(key)!r}")
    model = tables.get("model", {})
    architecture = model.get("architecture")
    if architecture not in ARCHITECTURES:
        raise ConfigError(
            f"[model] architecture must be {' or '.join(ARCHITECTURES)}, got {architecture!r}"
        )
    arguments = {*inspect.signature(ARCHITECTURES[architecture]).parameters, "architecture"}
    for key in model:
        _known("key of [model]", key, sorted(arguments - {"shape"}))
    if "latent" not in model:
        raise ConfigError("[model] must have latent")
    config = Config(
        data=_table(DataTable, "data", tables),
        model=model,
        optimizer=_table(OptimizerTable, "optimizer", tables),
        train=train,
        noise=tables.get("noise", {}),
        penalties=tables.get("penalties", []),
    )
    config.schedule(), config.penalty_list()  # for what is wrong with them
    return config


def _table(kind: Callable[..., Any], name: str, tables: dict[str, Any]) -> Any:
    """A table with fixed keys, each of the type of its default."""
    defaults = asdict(kind())
    for key, value in tables.get(name, {}).items():
        _known(f"key of [{name}]", key, list(defaults))
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        default = defaults[key]
        fits = (
            number
            if default is None or isinstance(default, float)
            else isinstance(value, type(default))
        )
        if not fits or isinstance(value, bool):
            must = "a number" if default is None else f"like {default!r}"
            raise ConfigError(f"[{name}] {key} must be {must}, got {value!r}")
    try:
        return kind(**tables.get(name, {}))
    except ValueError as error:
        raise ConfigError(f"[{name}] {error}") from None


def _made(
    table: str, key: str, name: Any, known: Mapping[str, Any], arguments: dict[str, Any]
) -> Any:
    """An object of the class that is called `name`."""
    if name not in known:
        raise ConfigError(f"{table} {key} must be one of {', '.join(known)}, got {name!r}")
    try:
        inspect.signature(known[name]).bind(**arguments)
        return known[name](**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{table} {name}: {error}") from None


def _classes(module: Any, base: type) -> list[str]:
    return [
        n for n in module.__all__ if (c := getattr(module, n)) is not base and inspect.isclass(c)
    ]


def _known(what: str, name: str, known: list[str]) -> None:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        raise ConfigError(f"unknown {what}: {name!r}; {hint}")
