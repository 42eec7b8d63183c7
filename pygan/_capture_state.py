"""What a captured step depends on and changes: found, put back in place, and watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from operator import attrgetter, is_
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pygan._capture_audit import storage_of
from pygan.average import EMA
from pygan.fake_pool import FakePool
from pygan.schedules import Schedule
from pygan.stream import NoiseStream

__all__ = ["Entries", "Kept", "Watch", "entries_of"]

_NUMBERS = (bool, int, float)
# Numbers of ours that move: with the loop, or as tensors that are looked after elsewhere do.
_MOVING = {Schedule: "count", EMA: "_empty", FakePool: "_filled"}


class Entries(NamedTuple):
    """Some of what a dictionary, `of`, holds."""

    name: str
    of: Any
    keys: list[Any]
    whole: bool
    """Whether a further key is a change."""

    def values(self) -> list[Any]:
        return [*map(self.of.get, self.keys)]


class _Cells:
    """The variables of an enclosing function that a function reads, as a dictionary."""

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
        except ValueError:  # it has no value yet
            return None

    def __setitem__(self, name: str, value: Any) -> None:
        self._cells[name].cell_contents = value


class _Items:
    """What is in a list, as a dictionary."""

    def __init__(self, items: list[Any]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def get(self, index: int) -> Any:
        return self._items[index] if index < len(self) else None

    def __setitem__(self, index: int, value: Any) -> None:
        self._items[index] = value


def entries_of(name: str, value: Any, seen: set[int]) -> Iterator[Entries]:
    """Where an object keeps what a step may depend on: a module its parameters, buffers, parts and numbers, another
    object its tensors and numbers, a function the variables of others that it reads; and so what these hold, as far as
    they are modules, streams, collections, or functions of the same file.

    Args:
        name: of the object, for messages.
        seen: the ids of objects to leave out; those found are added.
    """
    if isinstance(value, MethodType):
        value = value.__self__
    if isinstance(value, (Tensor, ModuleType, type)) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, FunctionType):
        yield from _read_by(name, value, seen)
        return
    if isinstance(value, (list, tuple, dict)):
        parts = value if isinstance(value, dict) else dict(enumerate(value))
        if isinstance(value, (dict, list)):
            of = value if isinstance(value, dict) else _Items(value)
            yield Entries(name, of, [*parts], True)
        for key, part in parts.items():
            yield from entries_of(f"{name}[{key!r}]", part, seen)
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
    # A plain tensor of a module may be computed anew in each pass, as weight_norm does.
    kinds = _NUMBERS if module else (*_NUMBERS, Tensor)
    keys = [key for key, x in own.items() if isinstance(x, kinds)]
    moving = [key for kind, key in _MOVING.items() if isinstance(value, kind)]
    yield Entries(name, own, [key for key in keys if key not in moving], False)
    plain = not module and not isinstance(value, FakePool)
    for key, part in own.items():
        if isinstance(part, NoiseStream) or (
            plain and isinstance(part, (nn.Module, list, tuple, dict))
        ):
            yield from entries_of(f"{name}.{key}", part, seen)


def _read_by(name: str, function: FunctionType, seen: set[int]) -> Iterator[Entries]:
    for of, items in (
        (cells := _Cells(function), cells.items()),
        (
            (names := function.__globals__),
            [(key, names[key]) for key in function.__code__.co_names if key in names],
        ),
    ):
        numbers = [key for key, x in items if isinstance(x, _NUMBERS)]
        yield Entries(f"{name}()", of, numbers, False)
        for key, x in items:
            same_file = getattr(x, "__globals__", None) is function.__globals__
            if same_file or isinstance(x, (nn.Module, NoiseStream, list, dict)):
                yield from entries_of(key, x, seen)


class Kept:
    """The values of tensors and numbers as they are now, to be put back.

    Args:
        found: where they are. What was not there is left alone.
    """

    def __init__(self, found: list[Entries]) -> None:
        self._values = [
            (of, key, x.detach().clone() if isinstance(x, Tensor) else x)
            for _, of, keys, _ in found
            for key, x in zip(keys, map(of.get, keys), strict=True)
            if isinstance(x, (Tensor, *_NUMBERS))
        ]

    @torch.no_grad()
    def put_back(self) -> None:
        """Into the tensors that are there now, in place, because a graph holds their memory."""
        for of, key, value in self._values:
            now = of.get(key)
            if isinstance(value, Tensor) and isinstance(now, Tensor):
                now.data.copy_(value)
            else:
                of[key] = value

    def storages(self) -> set[int]:
        """Of the tensors that would be put back."""
        now = [of.get(key) for of, key, _ in self._values]
        return {storage_of(x) for x in now if isinstance(x, Tensor)}


class Watch:
    """Notices where something is no longer what it was: another object, another number, a tensor with other memory.

    Args:
        found: where to look.
    """

    def __init__(self, found: list[Entries]) -> None:
        self._found = found
        self._before = [entries.values() for entries in found]
        flat = [*chain.from_iterable(self._before)]
        # What every step compares, in few calls: a network may have hundreds of these.
        self._reads = [_reader(entries) for entries in found if entries.keys]
        self._flat = flat
        self._sized = [entries.of for entries in found if entries.whole]
        self._sizes = [*map(len, self._sized)]
        self._tensors = [x for x in flat if isinstance(x, Tensor)]
        self._memory = self._memory_now()

    def storages(self) -> set[int]:
        return set(map(storage_of, self._tensors))

    def changed(self) -> str | None:
        """The name of what has changed, if anything has."""
        if [*map(len, self._sized)] == self._sizes:
            now = chain.from_iterable([read() for read in self._reads])
            if all(map(is_, now, self._flat)) and self._memory_now() == self._memory:
                return None
        return self._difference()

    def _difference(self) -> str | None:
        sizes = {id(of): size for of, size in zip(self._sized, self._sizes, strict=True)}
        for (name, of, keys, whole), before in zip(self._found, self._before, strict=True):
            if whole and len(of) != sizes[id(of)]:
                return name
            for key, x in zip(keys, before, strict=True):
                if not _same(of.get(key), x):
                    return f"{name}.{key}"
        moved = zip(zip(*self._memory_now()), zip(*self._memory), self._tensors, strict=True)
        others = {id(x) for now, before, x in moved if now != before}
        for (name, _, keys, _), before in zip(self._found, self._before, strict=True):
            for key, x in zip(keys, before, strict=True):
                if id(x) in others:
                    return f"the memory of {name}.{key}"
        return None

    def _memory_now(self) -> tuple[list[int], list[bool]]:
        tensors = self._tensors
        return [*map(Tensor.data_ptr, tensors)], [*map(attrgetter("requires_grad"), tensors)]


def _reader(entries: Entries) -> Callable[[], Any]:
    """What reads the values, or as many others where some are gone."""
    _, of, keys, whole = entries
    if whole and isinstance(of, dict):
        return of.values
    return partial(map, of.get, keys)


def _same(now: Any, before: Any) -> bool:
    if now is before:
        return True
    plain = isinstance(now, (*_NUMBERS, str, tuple)) and type(now) is type(before)
    return plain and bool(now == before)
