"""Checks of single values of a configuration, each against the annotation of the argument that it becomes, and their
TOML notation."""

from __future__ import annotations

import difflib
import inspect
import json
import math
import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from inspect import Parameter
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pygan.schedules import Schedule

__all__ = [
    "ConfigError",
    "as_value",
    "can_be_none",
    "check_arguments",
    "check_known",
    "check_plain",
    "check_range",
    "check_values",
    "first_line",
    "is_plain",
    "nearest",
    "shown",
]


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the file, the table and the key."""


# For each type: the types of TOML values that are accepted, and its name in messages.
_KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "an int"),
    float: ((int, float), "a number"),
    str: ((str,), "a string"),
}


def check_plain(where: str, value: Any) -> None:
    """Check that a value contains nothing that can never be an argument.

    Raises:
        ConfigError: a date, or a number that is not finite or does not fit 64 bits.
    """
    if isinstance(value, dict):
        for key, entry in value.items():
            check_plain(f"{where} {key}".lstrip(), entry)
    elif isinstance(value, list):
        for entry in value:
            check_plain(where, entry)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where} must be finite, got {value}")
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise ConfigError(f"{where} must fit into 64 bits, got {shown(value)}")
    elif not isinstance(value, (bool, int, float, str)):
        raise ConfigError(f"{where} must be a number, a string, true, false or a list, got {value}")


def check_arguments(
    where: str,
    function: Callable[..., Any],
    given: Mapping[str, Any],
    *,
    set_elsewhere: Collection[str] = (),
) -> None:
    """Check that the function accepts the arguments, as far as its annotations show.

    Raises:
        ConfigError: an unknown or missing name, or a value of the wrong type.
    """
    parameters = inspect.signature(function, eval_str=True).parameters
    taken = {name: p for name, p in parameters.items() if name not in set_elsewhere}
    check_values(where, taken, given)


def check_values(where: str, parameters: Mapping[str, Parameter], given: Mapping[str, Any]) -> None:
    """Check values against some parameters of a function, like `check_arguments`."""
    for name, value in given.items():
        check_known(f"key of {where}", name, parameters)
        _check_kind(f"{where} {name}", value, _alternatives(parameters[name].annotation))
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in given:
            raise ConfigError(f"{where} must have {name}, got none")


def can_be_none(parameter: Parameter) -> bool:
    return type(None) in _alternatives(parameter.annotation)


def is_plain(parameter: Parameter) -> bool:
    """Whether TOML has values for the parameter."""
    kinds, entries, has_table = _toml_types(_alternatives(parameter.annotation))
    return bool(kinds or entries or has_table)


def _alternatives(annotation: Any) -> list[Any]:
    """The types that an annotation allows."""
    if get_origin(annotation) in (Union, UnionType):
        return [one for part in get_args(annotation) for one in _alternatives(part)]
    return [annotation]


def _toml_types(types: list[Any]) -> tuple[list[type], list[type], bool]:
    """Which of the types TOML has: plain types, types of list entries, and whether a table is accepted (as a
    schedule)."""
    lists = [get_args(one) for one in types if get_origin(one) in (list, Sequence)]
    entries = [entry for (entry,) in lists if entry in _KINDS]
    return [one for one in types if one in _KINDS], entries, Schedule in types


def _check_kind(where: str, value: Any, types: list[Any]) -> None:
    kinds, entries, has_table = _toml_types(types)
    plain = {one for kind in kinds for one in _KINDS[kind][0]}
    if isinstance(value, list) and entries:
        for entry in value:
            _check_kind(f"each of {where}", entry, list(entries))
    elif (isinstance(value, dict) and has_table) or (value is None and type(None) in types):
        return  # a schedule is checked when it is created
    elif (kinds or entries or has_table) and type(value) not in plain:  # exact: true is not an int
        must = [_KINDS[kind][1] for kind in kinds]
        must += ["a list"] * bool(entries) + ["a schedule"] * has_table
        raise ConfigError(f"{where} must be {' or '.join(must)}, got {shown(value)}")


def check_range(where: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ConfigError(f"{where} must be from {least} to {most}, got {shown(value)}")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The name that is spelled most like the given one, whatever the case; None if none is similar."""
    by_lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.65)
    return by_lower[close[0]] if close else None


def check_known(what: str, name: str, known: Iterable[str]) -> None:
    known = sorted(known)
    if name not in known:
        close = nearest(name, known)
        hint = f"did you mean {close}?" if close else f"known: {', '.join(known)}"
        raise ConfigError(f"unknown {what}: {shown(name)}; {hint}")


def shown(value: Any) -> str:
    """The value for a message, shortened if it is long. Booleans are those of TOML."""
    if isinstance(value, bool):
        return as_value(value)
    # Python limits the conversion of long ints to strings.
    if isinstance(value, int) and value.bit_length() > 999:
        return f"an int of {value.bit_length()} bits"
    return reprlib.repr(value)


def first_line(error: Exception) -> str:
    """The first line of an error's message; torch appends the C++ call stack to some messages."""
    return (str(error) or type(error).__name__).splitlines()[0]


def as_value(value: Any) -> str:
    """The value in TOML notation, where None is "none"."""
    if value is None:
        return '"none"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {as_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_value, value)) + "]"
    # JSON and TOML write numbers, booleans and, except for the delete character, strings in the same way.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
