"""Loads the state of a GANTrainer's parts: all of them, or none."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from pygan import _parallel as parallel
from pygan import _trainer_checks as checked
from pygan._validation import check_int

__all__ = ["differences", "load", "loadable", "stateful"]

_MAX_LISTED = 5


def stateful(given: dict[str, Any]) -> dict[str, Any]:
    """The objects that have ``state_dict`` and ``load_state_dict``."""
    verbs = ("state_dict", "load_state_dict")
    return {
        name: owner
        for name, owner in given.items()
        if all(callable(getattr(owner, verb, None)) for verb in verbs)
    }


def loadable(
    parts: dict[str, Any], given: dict[str, Any], states: dict[str, Any], penalties: int
) -> dict[str, Any]:
    """The parts with a state to load: all of them, except for objects `given` by the user that have no entry.

    Raises:
        KeyError: another part has no entry, or there are unknown entries.
        TypeError, ValueError: invalid counters or values of the penalties.
    """
    # Older state dicts have no entry for such objects, and an object with an empty state needs none.
    absent = [name for name, x in given.items() if name not in states and not x.state_dict()]
    parts = {name: part for name, part in parts.items() if name not in absent}
    wanted = {*parts, "steps", "d_updates", "penalties"}
    if set(states) != wanted or len(states["penalties"]) != penalties:
        missing, unknown = sorted(wanted - set(states)), sorted(set(states) - wanted)
        raise KeyError(
            "GANTrainer.load_state_dict: state_dict must be from a trainer with the same parts, got one with "
            f"{len(states.get('penalties', ()))} penalties instead of {penalties}, without {missing}, with {unknown}"
        )
    for name in ("steps", "d_updates"):
        check_int("GANTrainer.load_state_dict", name, states[name], 0)
    checked.penalty_values(states["penalties"])
    return parts


def load(parts: dict[str, Any], states: dict[str, Any], *, is_sharded: bool) -> None:
    """Load the full state of each part; sharded parts take their shard of it.

    Raises:
        ValueError: a state does not fit its part. All parts are then unchanged.
    """
    before: dict[str, Any] = {}
    for name, part in parts.items():
        # An optimizer replaces its tensors when it loads a state; the other parts overwrite theirs.
        own = part.state_dict()
        before[name] = own if isinstance(part, Optimizer) else copy.deepcopy(own)
        try:
            state = parallel.shard_state(states[name], part) if is_sharded else states[name]
            part.load_state_dict(state)
            if isinstance(part, Optimizer):
                _check_options(part)
        except Exception as error:
            for loaded, old in before.items():
                parts[loaded].load_state_dict(old)
            differ = differences(own, states[name]) if isinstance(part, nn.Module) else ""
            reason = f"one that differs in {differ}" if differ else f"another: {error}"
            raise ValueError(
                f"GANTrainer.load_state_dict: the state of {name} must be from a {type(part).__name__} like this "
                f"trainer's, got {reason}"
            ) from error


def differences(own: Mapping[str, Any], given: Any) -> str:
    """The first entries of a module's `state_dict` that the given one does not have in the same shape, or has in
    addition; "" if there are none, or it is not a dict."""
    if not isinstance(given, Mapping):
        return ""
    differ = []
    for key in [*own, *(key for key in given if key not in own)]:
        mine, theirs = (_shape_or_type(its, key) for its in (own, given))
        if mine != theirs:
            differ.append(f"{key} ({theirs} for {mine})")
    more = f" and {len(differ) - _MAX_LISTED} more" if len(differ) > _MAX_LISTED else ""
    return ", ".join(differ[:_MAX_LISTED]) + more


def _shape_or_type(state: Mapping[str, Any], key: str) -> str:
    if key not in state:
        return "none"
    value = state[key]
    return f"{tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _check_options(optimizer: Optimizer) -> None:
    """Checks that the loaded groups have the optimizer's options; torch would fail only at the next step."""
    for group in optimizer.param_groups:
        missing = sorted(set(optimizer.defaults) - set(group))
        if missing:
            raise ValueError(f"its groups lack {', '.join(missing)}")
