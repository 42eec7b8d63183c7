"""Entries: the places in objects that hold what a captured step depends on or changes."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from itertools import chain
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from torch import Tensor, nn

from pygan.average import EMA
from pygan.fake_pool import FakePool
from pygan.schedules import Schedule
from pygan.stream import NoiseStream

__all__ = ["NUMBERS", "Entries", "entries_of"]

NUMBERS = (bool, int, float)
# pygan's own numbers that may change: they follow the loop, or belong to tensors that are handled elsewhere.
_MOVING = {Schedule: "count", EMA: "_empty", FakePool: "_filled"}


class Entries(NamedTuple):
    """Some entries of a dictionary, `of`."""

    name: str
    of: Any
    keys: list[Any]
    whole: bool
    """Whether an additional key counts as a change."""

    def values(self) -> list[Any]:
        return [*map(self.of.get, self.keys)]


class _ClosureVariables:
    """The variables of enclosing functions that a function reads, with the interface of a dictionary."""

    def __init__(self, function: FunctionType) -> None:
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        self._cells = dict(cells)

    def __len__(self) -> int:
        return len(self._cells)

    def items(self) -> list[tuple[str, Any]]:
        return [(name, self.get(name)) for name in self._cells]

    def get(self, name: str) -> Any:
        try:
            return self._cells[name].cell_contents
        except ValueError:  # the variable has no value yet
            return None

    def __setitem__(self, name: str, value: Any) -> None:
        self._cells[name].cell_contents = value


class _ListItems:
    """The items of a list, with the interface of a dictionary."""

    def __init__(self, items: list[Any]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def get(self, index: int) -> Any:
        return self._items[index] if index < len(self) else None

    def __setitem__(self, index: int, value: Any) -> None:
        self._items[index] = value


def entries_of(name: str, value: Any, seen: set[int]) -> Iterator[Entries]:
    """The entries of an object that a step may depend on: the parameters, buffers, submodules and numbers of a module,
    the tensors and numbers of another object, and the outer variables that a function reads; recursively for modules,
    streams, collections, and functions in the same file.

    Args:
        name: the object's name, for messages.
        seen: the ids of objects to skip; visited objects are added.
    """
    if isinstance(value, MethodType):
        value = value.__self__
    if isinstance(value, (Tensor, ModuleType, type)) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, FunctionType):
        for numbers, items in _read_by(name, value):
            yield numbers
            for key, x in items:
                same_file = getattr(x, "__globals__", None) is value.__globals__
                if same_file or isinstance(x, (nn.Module, NoiseStream, list, dict)):
                    yield from entries_of(key, x, seen)
        return
    if isinstance(value, (list, tuple, dict)):
        parts = value if isinstance(value, dict) else dict(enumerate(value))
        if isinstance(value, (dict, list)):
            of = value if isinstance(value, dict) else _ListItems(value)
            yield Entries(name, of, [*parts], True)
        for place, part in parts.items():
            yield from entries_of(f"{name}[{place!r}]", part, seen)
        return
    own = getattr(value, "__dict__", None)
    if not isinstance(own, dict):
        return
    module = isinstance(value, nn.Module)
    if module:
        for part in (value._parameters, value._buffers, value._modules):
            yield Entries(name, part, [*part], True)
        for key, part in value._modules.items():
            yield from entries_of(f"{name}.{key}", part, seen)
        forward = type(value).forward
        theirs = isinstance(forward, FunctionType) and not forward.__module__.startswith("torch.")
        if theirs and id(forward) not in seen:
            seen.add(id(forward))
            yield from (numbers for numbers, _ in _read_by(f"{name}.forward", forward))
    # A plain tensor attribute of a module may be recomputed in each pass, as weight_norm does.
    kinds = NUMBERS if module else (*NUMBERS, Tensor)
    keys = [key for key, x in own.items() if isinstance(x, kinds)]
    moving = [key for kind, key in _MOVING.items() if isinstance(value, kind)]
    yield Entries(name, own, [key for key in keys if key not in moving], False)
    plain = not module and not isinstance(value, FakePool)
    for key, part in own.items():
        if isinstance(part, NoiseStream) or (
            plain and isinstance(part, (nn.Module, list, tuple, dict))
        ):
            yield from entries_of(f"{name}.{key}", part, seen)


def _read_by(name: str, function: FunctionType) -> Iterator[tuple[Entries, list[tuple[str, Any]]]]:
    """The outer variables that a function reads: the entries that are numbers, and all of them with their values."""
    cells, scope = _ClosureVariables(function), function.__globals__
    globals_read = [(key, scope[key]) for key in _globals_of(function.__code__) if key in scope]
    for of, items in ((cells, cells.items()), (scope, globals_read)):
        numbers = [key for key, x in items if isinstance(x, NUMBERS)]
        yield Entries(f"{name}()", of, numbers, False), items


def _globals_of(code: CodeType) -> list[str]:
    """The global names that code reads. (co_names also contains attribute names.)"""
    found = [x.argval for x in dis.get_instructions(code) if x.opname == "LOAD_GLOBAL"]
    inner = [_globals_of(x) for x in code.co_consts if isinstance(x, CodeType)]
    return [*dict.fromkeys(chain(found, *inner))]
