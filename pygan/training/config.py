"""The configuration of `pygan train`: TOML that overrides the recipe for the data.

[data]
name = "ring"                    # ring, grid, digits, stacked-digits, mnist, stacked-mnist, or a folder of images
[model]
architecture = "mlp"             # or dcgan; the other keys are arguments of that function
latent = 2
width = 128
[optimizer]                      # Adam, for both networks
lr = 1e-3
d_lr = 2e-3                      # the discriminator's, if it differs
[train]                          # arguments of pygan.fit and pygan.GANTrainer
steps = 10_000
loss = "relativistic"
ema = "none"                     # None
[noise]                          # a class of pygan.schedules and its arguments
schedule = "Cosine"
start = 0.5
end = 0.0
until = 0.8                      # instead of `steps`: this share of the run
[[penalties]]                    # classes of pygan.penalties and their arguments
name = "R1"
gamma = 1.0
[machine]                        # how to compute
threads = 1
channels_last = true             # of convolutions
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from pygan.training.config_tables import Config, DataTable, OptimizerTable, config_of
from pygan.training.config_values import ConfigError, as_value, check_known, check_plain, shown
from pygan.training.models import ARCHITECTURES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "Config",
    "ConfigError",
    "DataTable",
    "OptimizerTable",
    "as_toml",
    "load",
    "override",
    "recipes",
    "tables_of",
]


def load(
    data: str | None = None,
    path: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    resumed: Mapping[str, Any] | None = None,
) -> Config:
    """The recipe for the data, overridden by the file at `path`, which `overrides` (nested tables) override.

    Args:
        data: the name in [data]; None: the name in the file.
        resumed: the tables of the run to resume. For a folder of images they replace the recipe, so that the settings
            chosen from the images and the machine stay the same.

    Raises:
        ConfigError: an unknown table or key, a value of the wrong type, or a file that is not TOML.
    """
    given = {} if path is None else _read(path)
    overrides = overrides or {}
    where = "the configuration" if path is None else str(path)
    try:
        _check_tables(given)
        _check_tables(overrides)
        if data is not None:
            if "name" in overrides.get("data", {}):
                raise ConfigError(
                    f"[data] name must not be set together with --data {data}, got "
                    f"{shown(overrides['data']['name'])}"
                )
            overrides = _merged(overrides, {"data": {"name": data}})
        merged = _merged(given, overrides)
        name = merged.get("data", {}).get("name", DataTable.name)
        below = {} if name in recipes() else tables_of(resumed)
        recipe = _merged(below or _recipe(name), {"data": {"name": name}})
        return config_of(_merged(recipe, merged))
    except ConfigError as error:
        raise ConfigError(f"pygan train: {where}: {error}") from None


def override(overrides: dict[str, Any], given: str) -> None:
    """Set ``table.key=value`` in the nested tables; a value that is not TOML is a string.

    Raises:
        ConfigError: it does not have this form.
    """
    name, equals, text = given.partition("=")
    table, dot, key = name.strip().partition(".")
    if not equals or not dot:
        raise ConfigError(f"pygan train: --set must be given TABLE.KEY=VALUE, got {given!r}")
    try:
        read = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        read = {}
    value = read["value"] if len(read) == 1 else text.strip()
    overrides.setdefault(table, {})[key] = value


def as_toml(config: Config) -> str:
    """The configuration as the text of a file for `--config`."""
    tables = config.plain()
    # TOML cannot write an empty list of tables, which must replace the recipe's list.
    lines = [] if tables["penalties"] else ["penalties = []", ""]
    for name, table in tables.items():
        if name == "data":  # keys of other data would be refused as soon as they are edited
            table = {k: v for k, v in table.items() if k in config.data.effective()}
        for entry in table if isinstance(table, list) else [table]:
            lines.append(f"[[{name}]]" if isinstance(table, list) else f"[{name}]")
            lines += [f"{k} = {as_value(v)}" for k, v in entry.items() if _is_given(name, v)]
            lines.append("")
    return "\n".join(lines)


def recipes() -> list[str]:
    """The data sets that have a recipe, except for folders of images."""
    folder = resources.files("pygan.training") / "recipes"
    names = (entry.name for entry in folder.iterdir())
    return sorted(n[:-5] for n in names if n.endswith(".toml") and not n.startswith("images"))


def _is_given(table: str, value: Any) -> bool:
    """Whether the file must contain it: None in [train] was given as "none", elsewhere it is the default."""
    return value is not None or table == "train"


def tables_of(config: Any) -> dict[str, Any]:
    """The tables of a checkpoint's configuration as a file would have them: without defaults of None, and without other
    entries. Empty if it is not one of `pygan train`: to `pygan.fit`, any dict is a configuration."""
    if not isinstance(config, dict):
        return {}
    known = {field.name: config[field.name] for field in fields(Config) if field.name in config}
    for name, table in known.items():
        if not isinstance(table, list if name == "penalties" else dict):
            return {}
    if known.get("model", {}).get("architecture") not in [*ARCHITECTURES]:
        return {}
    for name, table in known.items():
        if isinstance(table, dict):
            known[name] = {key: value for key, value in table.items() if _is_given(name, value)}
    return known


def _recipe(name: Any) -> dict[str, Any]:
    images = "images-cuda" if torch.cuda.is_available() else "images"
    file = f"{name if name in recipes() else images}.toml"
    return tomllib.loads((resources.files("pygan.training") / "recipes" / file).read_text("utf-8"))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"pygan train: cannot read {path}: {error.strerror}") from error
    except (
        ValueError,
        RecursionError,
    ) as error:  # also raised for invalid UTF-8 and for very long numbers
        raise ConfigError(f"pygan train: {path} must be TOML: {error}") from error


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Override `below` by `above`, table by table and key by key. A list, such as [[penalties]], is replaced as a
    whole; so are a [noise] table with a schedule and a [model] table with an architecture, to which the other keys
    belong."""
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


def _check_tables(tables: Mapping[str, Any]) -> None:
    """Check that all tables of one file are known and are tables. (After merging, an error could be hidden.)"""
    for name, table in tables.items():
        check_known("table", name, [f.name for f in fields(Config)])
        check_plain("" if isinstance(table, dict) else name, {f"[{name}]": table})
        entries = table if name == "penalties" else [table]
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            must = "a list of tables" if name == "penalties" else "a table"
            raise ConfigError(f"[{name}] must be {must}, got {shown(table)}")
