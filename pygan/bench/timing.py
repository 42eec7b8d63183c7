"""The measurement method of the benchmarks: interleaved calls, alternating buffers, and medians with their spread."""

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
    """The time of a call in µs: the median of the samples, and the quartiles, which show their spread."""

    median: float
    low: float
    high: float


def synchronize(device: torch.device) -> None:
    """Wait until `device` has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(
    calls: Mapping[str, Call],
    buffers: Sequence[Sequence[Any]],
    *,
    device: torch.device,
    seconds: float,
) -> dict[str, Timing]:
    """Time calls with :func:`samples`, and summarize the samples."""
    taken = samples(calls, buffers, device=device, seconds=seconds)
    return {name: summary(values) for name, values in taken.items()}


def samples(
    calls: Mapping[str, Call],
    buffers: Sequence[Sequence[Any]],
    *,
    device: torch.device,
    seconds: float,
    sample_seconds: float = 2e-3,
) -> dict[str, list[float]]:
    """Time each call on the sets of buffers in turn, so that no call finds data of the previous one in a cache. Times
    are in µs; the k-th samples of all calls belong to the same round.

    The calls alternate in a random order (with a fixed seed), so that the machine's load affects all of them equally. A
    sample is as many calls as take `sample_seconds`; the default is long enough for the clock, and for a thread pool
    to wake up once.
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
    counts = {name: max(1, int(sample_seconds / sample(call, 1))) for name, call in calls.items()}
    # The first estimate includes the warm-up.
    counts = {
        name: max(1, int(sample_seconds / sample(calls[name], n))) for name, n in counts.items()
    }
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
    """Peak number of bytes that a call on new buffers allocates with torch's allocators, after a warm-up call."""
    call(*buffers())
    fresh = buffers()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call(*fresh)
        return torch.cuda.max_memory_allocated(device) - before
    with (
        _stderr_suppressed(),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace,
    ):
        call(*fresh)
    assert trace.profiler is not None
    held = peak = 0
    for _, size in sorted(_allocations(trace.profiler.kineto_results.experimental_event_tree())):
        held += size
        peak = max(peak, held)
    return peak


def _allocations(events: Any) -> Iterator[tuple[int, int]]:
    """(time, bytes) of each allocation; the bytes are negative for deallocations."""
    for event in events:
        if hasattr(event.extra_fields, "alloc_size"):
            yield event.start_time_ns, event.extra_fields.alloc_size
        yield from _allocations(event.children)


@contextmanager
def _stderr_suppressed() -> Iterator[None]:
    """Suppress standard error, to which torch's profiler writes two lines at each use."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
