"""The changed settings of a resumed run in the terms of the user of `pygan train`: keys and values of the TOML file."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from inspect import Parameter
from typing import Any

from pygan.training.checkpoint_settings import Changes, changes, describe_changes
from pygan.training.config_train import train_keys
from pygan.training.config_values import ConfigError
from pygan.training.models import ARCHITECTURES

__all__ = ["as_keys", "check_keys", "check_model"]

# Names of settings, and the keys that determine them.
_KEYS = [
    (r"config\.data\.(.+)", r"[data] \1"),
    (r"conditional", "[data] labels"),
    (r"latent", "[model] latent"),
    (r"g_optimizer\.(.+)", r"[optimizer] \1"),
    (r"d_optimizer\.lr", "[optimizer] d_lr"),
    (r"lr_schedulers\[0\]\.lr_lambdas\[0\]\.steps", "[train] steps (of the learning rates' decay)"),
    (r"lr_schedulers\[0\]\.lr_lambdas\[0\]\.decay_from", "[optimizer] decay_from"),
    (r"noise", "[noise] schedule"),
    (r"noise\.(.+)", r"[noise] \1"),
    (r"penalties\.length", "the number of [[penalties]]"),
    (r"penalties\[(\d+)\]", r"name of [[penalties]] number \1"),
    (r"penalties\[(\d+)\]\.(.+)", r"\2 of [[penalties]] number \1"),
]
# Follow from the generator's: both networks have the same betas and decay.
_IMPLIED = re.compile(r"d_optimizer\.(?!lr$).*|lr_schedulers\[1\].*")


def as_keys(changed: Changes, tables: Mapping[str, Any]) -> Changes:
    """The changes by TOML key, each once. `tables`: the present configuration."""
    found: dict[str, tuple[Any, Any]] = {}
    for name, both in changed.items():
        if _IMPLIED.fullmatch(name) or _is_repeated(name, changed):
            continue
        share = " (a share of [train] steps)" if _is_share(name, tables) else ""
        found[_key(name) + share] = _value(both[0]), _value(both[1])
    return found or changed


def check_keys(before: Mapping[str, Any]) -> None:
    """Check that this version of pygan has the keys in [model] of the run to resume.

    Raises:
        ConfigError: one is unknown; the message names it.
    """
    known = inspect.signature(ARCHITECTURES[before["architecture"]]).parameters
    unknown = [key for key in before if key not in ("architecture", *known)]
    if unknown:
        raise ConfigError(
            "pygan train: --resume must continue a run with networks that this version of pygan has, got one with "
            f"[model] {', '.join(unknown)}; use the version that trained it, or begin another run with --out"
        )


def check_model(model: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Check that [model] is that of the run to resume, whose weights fit no other networks.

    Raises:
        ConfigError: it is not; the message names the keys that differ.
    """
    differ = changes(_with_defaults(model), _with_defaults(before))
    if differ:
        named = {f"[model] {key}": (_value(a), _value(b)) for key, (a, b) in differ.items()}
        raise ConfigError(f"pygan train: {describe_changes(named, 'the run to resume')}")


def _with_defaults(model: Mapping[str, Any]) -> dict[str, Any]:
    """The table with the defaults of the architecture's arguments."""
    name = model["architecture"]
    arguments = inspect.signature(ARCHITECTURES[name]).parameters.values()
    defaults = {a.name: a.default for a in arguments if a.default is not Parameter.empty}
    return {"architecture": name, **defaults, **model}


def _is_repeated(name: str, changed: Mapping[str, Any]) -> bool:
    """Whether the change is the consequence of another one that is named."""
    if name == "d_optimizer.lr":  # unless d_lr is set
        return changed[name] == changed.get("g_optimizer.lr")
    if name == "conditional":
        return "config.data.labels" in changed
    # A decay that is new, or has been removed.
    return name.endswith(".steps") and name.startswith("lr_schedulers") and None in changed[name]


def _is_share(name: str, tables: Mapping[str, Any]) -> bool:
    """Whether the setting is the length of a schedule whose table does not set it."""
    *path, last = re.findall(r"\w+", name)
    table: Any = {**tables["train"], "noise": tables["noise"], "penalties": tables["penalties"]}
    for key in path:
        table = table[int(key)] if isinstance(table, list) else table.get(key)
        if not isinstance(table, (dict, list)):
            return False
    return last == "steps" and bool(path) and last not in table


def _key(name: str) -> str:
    for pattern, key in _KEYS:
        found = re.fullmatch(pattern, name)
        if found:
            return re.sub(
                r"(?<=number )\d+$", lambda index: str(int(index[0]) + 1), found.expand(key)
            )
    return f"[train] {name}" if re.split(r"[.[]", name)[0] in train_keys() else name


def _value(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    is_class = isinstance(value, str) and re.fullmatch(r"pygan\.[\w.]+", value)
    return value.rpartition(".")[2] if is_class else value
