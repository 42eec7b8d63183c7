"""Snapshot and ChangeDetector: restore what a captured step changes, and detect changes in what it depends on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain
from operator import attrgetter, is_
from typing import Any

import torch
from torch import Tensor

from pygan._capture_entries import NUMBERS, Entries
from pygan._capture_op_audit import storage_of

__all__ = ["ChangeDetector", "Snapshot"]


class Snapshot:
    """The current values of tensors and numbers, which can be restored later.

    Args:
        found: the entries that hold them. Entries added later are not changed.
    """

    def __init__(self, found: list[Entries]) -> None:
        self._values = [
            (of, key, x.detach().clone() if isinstance(x, Tensor) else x)
            for _, of, keys, _ in found
            for key, x in zip(keys, map(of.get, keys), strict=True)
            if isinstance(x, (Tensor, *NUMBERS))
        ]

    @torch.no_grad()
    def restore(self) -> None:
        """Restore the values. Tensors are restored in place, because a graph refers to their memory."""
        for of, key, value in self._values:
            now = of.get(key)
            if isinstance(value, Tensor) and isinstance(now, Tensor):
                now.data.copy_(value)
            else:
                of[key] = value

    def storages(self) -> set[int]:
        """The storages of the tensors that `restore` writes to."""
        now = [of.get(key) for of, key, _ in self._values]
        return {storage_of(x) for x in now if isinstance(x, Tensor)}


class ChangeDetector:
    """Detects entries that have changed: another object, another number, a tensor with other memory.

    Args:
        found: the entries to watch.
    """

    def __init__(self, found: list[Entries]) -> None:
        self._found = found
        self._before = [entries.values() for entries in found]
        flat = [*chain.from_iterable(self._before)]
        # Every step compares these, in few calls, because a network may have hundreds of entries.
        self._reads = [_reader(entries) for entries in found if entries.keys]
        self._flat = flat
        self._sized = [entries.of for entries in found if entries.whole]
        self._sizes = [*map(len, self._sized)]
        self._tensors = [x for x in flat if isinstance(x, Tensor)]
        self._memory = self._memory_now()

    def storages(self) -> set[int]:
        return set(map(storage_of, self._tensors))

    def changed(self) -> str | None:
        """The name of an entry that has changed, or None."""
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
        now, then = (zip(*memory, strict=True) for memory in (self._memory_now(), self._memory))
        places = zip(map(id, self._tensors), now, then, strict=True)
        moved = {place: a[0] != b[0] for place, a, b in places if a != b}
        for (name, _, keys, _), before in zip(self._found, self._before, strict=True):
            for key, x in zip(keys, before, strict=True):
                if id(x) in moved:
                    what = f"{name}.{key}"
                    return f"address of {what}" if moved[id(x)] else f"{what}.requires_grad"
        return None

    def _memory_now(self) -> tuple[list[int], list[bool]]:
        tensors = self._tensors
        return [*map(Tensor.data_ptr, tensors)], [*map(attrgetter("requires_grad"), tensors)]


def _reader(entries: Entries) -> Callable[[], Any]:
    """A function that reads the values of the entries; missing ones give None."""
    _, of, keys, whole = entries
    if whole and isinstance(of, dict):
        return of.values
    return partial(map, of.get, keys)


def _same(now: Any, before: Any) -> bool:
    if now is before:
        return True
    plain = isinstance(now, (*NUMBERS, str, tuple)) and type(now) is type(before)
    return plain and bool(now == before)
