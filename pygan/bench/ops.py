"""Measures the cases: one row each, with the baselines and the reference times in the same run."""

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

MAX_BUFFERS = 16
MAX_BYTES = 1 << 29  # of all buffers of a row together


@dataclass
class Row:
    """A measured case: times in µs per call, memory in bytes."""

    op: str
    work: str
    dtype: str
    n: int
    moved: int  # minimum number of bytes
    pygan: Timing
    eager: Timing  # the fastest of the eager baselines
    compiled: Timing | None
    others: dict[str, Timing]
    limit: float
    limited_by: str
    pygan_memory: int
    eager_memory: int

    @property
    def gain(self) -> float:
        """Speedup over the fastest baseline; below 1 if pygan is slower."""
        return min(t.median for t in (self.eager, self.compiled) if t) / self.pygan.median

    @property
    def total(self) -> float:
        """Total time of all calls, in µs."""
        return sum(t.median for t in (self.eager, self.compiled, self.pygan) if t)

    @property
    def of_limit(self) -> float:
        """The time as a multiple of the reference time."""
        return self.pygan.median / self.limit

    def flat(self) -> dict[str, Any]:
        """The values by column name, for tables."""
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
    """Measure the rows, one op at a time; `seconds` is the time for each row, not counting compilation.

    Because the load of a machine varies, an op's rows are measured in `passes` passes; for each row, the pass counts in
    which all calls together took the least time.

    Raises:
        Exception: an error from torch.compile, for example without a C++ compiler.
    """
    references = limits.measure(device, max(seconds, 0.2))
    for _, group in itertools.groupby(cases, key=lambda case: (case.op, case.dtype)):
        of_op = list(group)
        if compile:
            # One compiled program for all sizes of an op, as in a program that uses several sizes.
            torch._dynamo.reset()
            program = torch.compile(of_op[0].compiled, dynamic=True)
        best: list[Row | None] = [None] * len(of_op)
        for _ in range(passes):
            for i, case in enumerate(of_op):
                calls = case.calls | ({"compiled": case.wrap(program)} if compile else {})
                row = _measured(case, calls, device, seconds / passes, references)
                best[i] = min(best[i] or row, row, key=lambda row: row.total)
        yield from (row for row in best if row)


def _measured(
    case: Case,
    calls: dict[str, Any],
    device: torch.device,
    seconds: float,
    references: limits.Limits,
) -> Row:
    # Twice the largest cache, so that no call finds its data in the cache; but at least two buffers.
    turns = 2 * cache_size() // max(1, case.moved)
    turns = max(2, min(turns, MAX_BUFFERS, MAX_BYTES // max(1, case.moved)))
    sets = [case.buffers() for _ in range(turns)]
    copy, pair = limits.copy(case.moved, device)
    pairs = [pair() for _ in range(turns)]
    state = {"turn": 0}

    def limit(*_: Any) -> None:
        state["turn"] = (state["turn"] + 1) % turns
        copy(*pairs[state["turn"]])

    reference_calls: dict[str, Any] = {"copy": limit}
    if case.normals:
        reference_calls["draw"], drawn = limits.draw(device)
    times = interleaved(calls | reference_calls, sets, device=device, seconds=seconds)
    pygan, copied = times.pop("pygan"), times.pop("copy").median
    normals = times.pop("draw").median * case.normals / drawn if case.normals else 0.0
    compiled = times.pop("compiled", None)
    fastest = min(
        ("expression", "bce"), key=lambda way: times[way].median if way in times else 1e99
    )
    best, name = references.of(case.work, copied, normals)
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
