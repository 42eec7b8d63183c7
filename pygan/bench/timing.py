"""How the benchmarks measure: alternatives interleaved in one run, buffers in turn, medians with their spread."""

from __future__ import annotations

import itertools
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

__all__ = ["Timing", "interleaved", "peak_memory", "samples", "summary", "synchronize"]

Call = Callable[..., Any]


class Timing(NamedTuple):
    """Of one call, in µs: the median of the samples, and the quartiles that say how much they spread."""

    median: float
    low: float
    high: float


def synchronize(device: torch.device) -> None:
    """Waits for what was launched on `device`."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(
    calls: Mapping[str, Call],
    buffers: Sequence[Sequence[Any]],
    *,
    device: torch.device,
    seconds: float,
) -> dict[str, Timing]:
    """The times of calls as :func:`samples` takes them."""
    taken = samples(calls, buffers, device=device, seconds=seconds)
    return {name: summary(values) for name, values in taken.items()}


def samples(
    calls: Mapping[str, Call],
    buffers: Sequence[Sequence[Any]],
    *,
    device: torch.device,
    seconds: float,
) -> dict[str, list[float]]:
    """Times each call on the sets of buffers in turn, so that none finds in a cache what the one before left there.
    In µs; the k-th samples of all calls are of one round.

    The calls take turns in a random order (of a fixed seed): what else the machine does falls on all of them alike. A
    sample is as many calls as fill 2 ms: long enough for the clock, and for a thread pool to wake up once.
    """
    turn = itertools.cycle(buffers)

    def sample(call: Call, count: int) -> float:
        synchronize(device)
        start = time.perf_counter()
        for _ in range(count):
            call(*next(turn))
        synchronize(device)
        return (time.perf_counter() - start) / count

    for call in calls.values():
        sample(call, 1)
    counts = {name: max(1, int(2e-3 / sample(call, 1))) for name, call in calls.items()}
    # The first estimate is of a call that was not warm.
    counts = {name: max(1, int(2e-3 / sample(calls[name], n))) for name, n in counts.items()}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    order, shuffled = list(calls), random.Random(0)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken[order[0]]) < 5:
        shuffled.shuffle(order)
        for name in order:
            taken[name].append(1e6 * sample(calls[name], counts[name]))
    return taken


def summary(values: Sequence[float]) -> Timing:
    """The median and the quartiles."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Timing(median, low, high)


def peak_memory(call: Call, buffers: Callable[[], Sequence[Any]], device: torch.device) -> int:
    """Bytes that a call on fresh buffers allocates at its peak, by torch's allocators; a first one does not count."""
    call(*buffers())
    fresh = buffers()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call(*fresh)
        return torch.cuda.max_memory_allocated(device) - before
    with _silent(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        call(*fresh)
    assert trace.profiler is not None
    held = peak = 0
    for _, size in sorted(_allocations(trace.profiler.kineto_results.experimental_event_tree())):
        held += size
        peak = max(peak, held)
    return peak


def _allocations(events: Any) -> Iterator[tuple[int, int]]:
    """(when, bytes) of each; negative where they are given back."""
    for event in events:
        if hasattr(event.extra_fields, "alloc_size"):
            yield event.start_time_ns, event.extra_fields.alloc_size
        yield from _allocations(event.children)


@contextmanager
def _silent() -> Iterator[None]:
    """torch's profiler writes two lines to the process's standard error at each use."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
