"""Measures the cases: one row each, with the ways to do the same and the machine's limit in the same run."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from pygan.bench import limits
from pygan.bench.case import Case
from pygan.bench.machine import cache_size
from pygan.bench.timing import Timing, interleaved, peak_memory

__all__ = ["Row", "measure"]

MOST_BUFFERS = 16
MOST_BYTES = 1 << 29  # of all buffers of a row


@dataclass
class Row:
    """A case, measured: times in µs a call, memory in bytes."""

    op: str
    work: str
    dtype: str
    n: int
    moved: int  # bytes, at least
    pygan: Timing
    eager: Timing  # the fastest of the eager ways
    compiled: Timing | None
    others: dict[str, Timing]
    limit: float
    limited_by: str
    pygan_memory: int
    eager_memory: int

    @property
    def gain(self) -> float:
        """How many times faster than the fastest other way; below 1 where pygan loses."""
        return min(t.median for t in (self.eager, self.compiled) if t) / self.pygan.median

    @property
    def total(self) -> float:
        """Of all ways, in µs."""
        return sum(t.median for t in (self.eager, self.compiled, self.pygan) if t)

    @property
    def of_limit(self) -> float:
        """The time as a multiple of the limit."""
        return self.pygan.median / self.limit

    def flat(self) -> dict[str, Any]:
        """For a line of a table of numbers."""
        row: dict[str, Any] = {k: v for k, v in asdict(self).items() if k != "others"}
        for key in ("pygan", "eager", "compiled"):
            timing = getattr(self, key)
            for part in ("median", "low", "high"):
                row[f"{key}_{part}_us"] = getattr(timing, part) if timing else ""
            del row[key]
        row["limit_us"] = row.pop("limit")
        return row | {"gain": self.gain, "of_limit": self.of_limit}


def measure(
    cases: Iterable[Case], device: torch.device, *, seconds: float, compile: bool, passes: int
) -> Iterator[Row]:
    """The rows, an op's at a time as they are measured; `seconds` is the time for each, beside torch.compile's.

    What else a machine does comes and goes: an op's rows are measured in `passes` passes, and of each row the one
    counts in which all ways together took the least.

    Raises:
        Exception: whatever torch.compile raises, as where there is no C++ compiler.
    """
    floors = limits.measured(device, max(seconds, 0.2))
    for _, group in itertools.groupby(cases, key=lambda case: (case.op, case.dtype)):
        of_op = list(group)
        if compile:
            # One program for all sizes of an op, as in a program that meets them.
            torch._dynamo.reset()
            program = torch.compile(of_op[0].compiled, dynamic=True)
        best: list[Row | None] = [None] * len(of_op)
        for _ in range(passes):
            for i, case in enumerate(of_op):
                calls = case.calls | ({"compiled": case.wrap(program)} if compile else {})
                row = _measured(case, calls, device, seconds / passes, floors)
                best[i] = min(best[i] or row, row, key=lambda row: row.total)
        yield from (row for row in best if row)


def _measured(
    case: Case, calls: dict[str, Any], device: torch.device, seconds: float, floors: limits.Limits
) -> Row:
    # Twice the largest cache, so that a call finds nothing of the last one there; a few at least.
    turns = 2 * cache_size() // max(1, case.moved)
    turns = max(2, min(turns, MOST_BUFFERS, MOST_BYTES // max(1, case.moved)))
    sets = [case.buffers() for _ in range(turns)]
    copy, pair = limits.copy(case.moved, device)
    pairs = [pair() for _ in range(turns)]
    state = {"turn": 0}

    def limit(*_: Any) -> None:
        state["turn"] = (state["turn"] + 1) % turns
        copy(*pairs[state["turn"]])

    roofs: dict[str, Any] = {"copy": limit}
    if case.normals:
        roofs["draw"], drawn = limits.draw(device)
    times = interleaved(calls | roofs, sets, device=device, seconds=seconds)
    pygan, copied = times.pop("pygan"), times.pop("copy").median
    normals = times.pop("draw").median * case.normals / drawn if case.normals else 0.0
    compiled = times.pop("compiled", None)
    fastest = min(
        ("expression", "bce"), key=lambda way: times[way].median if way in times else 1e99
    )
    best, name = floors.of(case.work, copied, normals)
    return Row(
        op=case.op,
        work=case.work,
        dtype=str(case.dtype).removeprefix("torch."),
        n=case.n,
        moved=case.moved,
        pygan=pygan,
        eager=times[fastest],
        compiled=compiled,
        others=times,
        limit=best,
        limited_by=name,
        pygan_memory=peak_memory(calls["pygan"], case.buffers, device),
        eager_memory=peak_memory(calls[fastest], case.buffers, device),
    )
