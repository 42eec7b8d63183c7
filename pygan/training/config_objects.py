"""The objects described by configuration tables: a class name and its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pygan import penalties, schedules
from pygan.penalties import Penalty
from pygan.schedules import Schedule
from pygan.training.config_values import ConfigError, check_arguments, first_line, shown

__all__ = ["named", "penalty_of", "schedule_of", "with_schedules"]


def penalty_of(table: Mapping[str, Any], steps: int) -> Penalty:
    """A penalty from its name and arguments, in a run of that many steps."""
    arguments = dict(table)
    kind = named("[[penalties]]", "name", _classes(penalties, Penalty), arguments)
    made = _made("[[penalties]]", kind, arguments, steps)
    assert isinstance(made, Penalty)
    return made


def schedule_of(where: str, table: Mapping[str, Any], steps: int) -> Schedule:
    """A schedule from its name and arguments; it lasts for the whole run unless the table says otherwise."""
    arguments = dict(table)
    until = arguments.pop("until", None)
    kind = named(where, "schedule", _classes(schedules, Schedule), arguments)
    takes_steps = "steps" in inspect.signature(kind).parameters
    if until is not None:
        if not takes_steps or "steps" in arguments:
            why = "with steps" if takes_steps else f"for {kind.__name__}, which takes no steps"
            raise ConfigError(f"{where} until must be omitted {why}, got {shown(until)}")
        if type(until) not in (int, float) or not 0 < until <= 1:
            raise ConfigError(
                f"{where} until must be a fraction of the run, above 0 and at most 1, got {shown(until)}"
            )
    if takes_steps:
        share = 1.0 if until is None else until
        arguments.setdefault("steps", max(1, round(share * steps)))
    made = _made(where, kind, arguments, steps)
    assert isinstance(made, Schedule)
    return made


def with_schedules(where: str, arguments: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Replace each table among the arguments by the schedule that it describes."""
    return {
        key: schedule_of(f"{where} {key}", value, steps) if isinstance(value, dict) else value
        for key, value in arguments.items()
    }


def named(where: str, key: str, known: Mapping[str, Any], arguments: dict[str, Any]) -> Any:
    """Look up the object named by the argument `key`, and remove that argument."""
    name = arguments.pop(key, None)
    if not isinstance(name, str) or name not in known:
        got = "none" if name is None else shown(name)
        raise ConfigError(f"{where} {key} must be one of {', '.join(known)}, got {got}")
    return known[name]


def _made(where: str, kind: Callable[..., Any], arguments: dict[str, Any], steps: int) -> Any:
    check_arguments(where, kind, arguments)
    try:
        return kind(**with_schedules(where, arguments, steps))
    except ConfigError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: out of memory
        raise ConfigError(f"{where} {first_line(error)}") from None


def _classes(module: Any, base: type) -> dict[str, type]:
    """The public subclasses of `base` in a module, by name."""
    public = {name: getattr(module, name) for name in module.__all__}
    return {
        name: value
        for name, value in public.items()
        if inspect.isclass(value) and issubclass(value, base) and value is not base
    }
