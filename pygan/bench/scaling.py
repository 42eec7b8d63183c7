"""Time as a function of the numbers of elements and threads, and how well c + N / rate describes it."""

from __future__ import annotations

import ctypes
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch

import pygan
from pygan import fused_losses
from pygan.bench.timing import Timing, interleaved

__all__ = ["Fit", "Point", "fits", "measure"]


@dataclass
class Point:
    """A call at one size, in fp32; `n` is the number of logits of each kind, or of noise elements."""

    op: str
    threads: int
    n: int
    time: Timing

    def flat(self) -> dict[str, Any]:
        """The values by column name, for tables."""
        row = {k: v for k, v in asdict(self).items() if k != "time"}
        return row | {f"{part}_us": value for part, value in self.time._asdict().items()}


@dataclass
class Fit:
    """c + N / rate, with c in µs and the rate in elements per µs. `worst`: the largest ratio between a time and the
    fit, in either direction; `step`: the largest change of that ratio from one size to the next, 1 if the curve has no
    step."""

    op: str
    threads: int
    c: float
    rate: float
    worst: float
    step: float


# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


@contextmanager
def _memory_retained() -> Iterator[None]:
    """Context manager in which glibc's malloc retains freed memory. By default it requests memory for tensors of 32 MiB
    and more from the system each time, and the page faults cost several times as much as the op. Not used for the
    buffers, which would end up a power of two apart: noise of 2^26 elements then took 1.7 times as long.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):  # not glibc
        yield
        return
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, -1)  # mallopt interprets -1 as the largest size
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, 1 << 16)
        libc.mallopt(M_TRIM_THRESHOLD, 1 << 17)
        libc.malloc_trim(0)


# Because the load of a machine varies, the fastest of several passes, minutes apart, counts for each point.
PASSES = 3


def measure(device: torch.device, *, max_size: int, seconds: float) -> Iterator[Point]:
    """Measure the points for one thread and for torch's number of threads, with N a power of 4 up to `max_size`;
    `seconds` is the time for each."""
    all_threads = torch.get_num_threads()
    stream = pygan.NoiseStream(0, device=device)
    calls: dict[str, Callable[..., Any]] = {
        "discriminator_loss, forward": fused_losses.discriminator_loss,
        "discriminator_loss_and_grad": fused_losses.discriminator_loss_and_grad,
        "instance_noise(out=)": lambda a, b: pygan.instance_noise(a, 0.5, stream=stream, out=b),
    }
    sizes = [4**k for k in range(math.ceil(math.log(max_size, 4)) + 1) if 4**k <= max_size]
    counts = sorted({1, all_threads}) if device.type == "cpu" else [all_threads]
    best: dict[tuple[str, int, int], Timing] = {}
    for _ in range(PASSES):
        for threads, n in itertools.product(counts, sizes):
            torch.set_num_threads(threads)
            pair = [torch.randn(n, device=device) for _ in range(2)]
            with _memory_retained():
                times = interleaved(calls, [pair], device=device, seconds=seconds / PASSES)
            for op, timing in times.items():
                best[op, threads, n] = min(timing, best.get((op, threads, n), timing))
    torch.set_num_threads(all_threads)
    for (op, threads, n), timing in best.items():
        yield Point(op, threads, n, timing)


def fits(points: list[Point]) -> list[Fit]:
    """A fit for each op and number of threads, by least squares of the relative error."""
    found = []
    for op, threads in dict.fromkeys((p.op, p.threads) for p in points):
        chosen = [p for p in points if (p.op, p.threads) == (op, threads)]
        n = torch.tensor([p.n for p in chosen], dtype=torch.float64)
        t = torch.tensor([p.time.median for p in chosen], dtype=torch.float64)
        # (c + N / rate) / t = 1: linear in c and 1 / rate.
        a = torch.stack([1 / t, n / t], 1)
        c, slope = torch.linalg.lstsq(a, torch.ones_like(t)[:, None]).solution[:, 0].tolist()
        off = (t / (c + slope * n)).log()
        worst, step = off.abs().max().exp().item(), off.diff().abs().max().exp().item()
        found.append(Fit(op, threads, c, 1 / slope, worst, step))
    return found
