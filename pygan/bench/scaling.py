"""Time against the number of elements and of threads, and how well c + N / rate describes it."""

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
    """A call at one size, in fp32; `n` logits of each kind, or elements of the noise."""

    op: str
    threads: int
    n: int
    time: Timing

    def flat(self) -> dict[str, Any]:
        """For a line of a table of numbers."""
        row = {k: v for k, v in asdict(self).items() if k != "time"}
        return row | {f"{part}_us": value for part, value in self.time._asdict().items()}


@dataclass
class Fit:
    """c + N / rate, c in µs and the rate in elements a µs. `worst`: the greatest ratio of a time to the fit, or of the
    fit to it; `step`: the greatest one from a size to the next, 1 where the curve has no step."""

    op: str
    threads: int
    c: float
    rate: float
    worst: float
    step: float


# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


@contextmanager
def _kept_memory() -> Iterator[None]:
    """Meanwhile glibc's malloc keeps what is freed. Left alone, it takes memory for tensors of 32 MiB and more from the
    system anew each time, which then hands it out page by page: a cost of the allocation, several times that of the op.
    Not for the buffers, which would come to lie a power of two apart: noise of 2^26 elements then took 1.7 times as
    long.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):  # another C library
        yield
        return
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, -1)  # which it takes for the greatest size there is
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, 1 << 16)
        libc.mallopt(M_TRIM_THRESHOLD, 1 << 17)
        libc.malloc_trim(0)


# What else a machine does comes and goes: of each point the quietest of so many passes, minutes apart, counts.
PASSES = 3


def measure(device: torch.device, *, greatest: int, seconds: float) -> Iterator[Point]:
    """The points, for one thread and for as many as are set, N a power of 4 up to `greatest`; `seconds` for each."""
    all_threads = torch.get_num_threads()
    stream = pygan.NoiseStream(0, device=device)
    calls: dict[str, Callable[..., Any]] = {
        "discriminator_loss, forward": fused_losses.discriminator_loss,
        "discriminator_loss_and_grad": fused_losses.discriminator_loss_and_grad,
        "instance_noise(out=)": lambda a, b: pygan.instance_noise(a, 0.5, stream=stream, out=b),
    }
    sizes = [4**k for k in range(math.ceil(math.log(greatest, 4)) + 1) if 4**k <= greatest]
    counts = sorted({1, all_threads}) if device.type == "cpu" else [all_threads]
    best: dict[tuple[str, int, int], Timing] = {}
    for _ in range(PASSES):
        for threads, n in itertools.product(counts, sizes):
            torch.set_num_threads(threads)
            pair = [torch.randn(n, device=device) for _ in range(2)]
            with _kept_memory():
                times = interleaved(calls, [pair], device=device, seconds=seconds / PASSES)
            for op, timing in times.items():
                best[op, threads, n] = min(timing, best.get((op, threads, n), timing))
    torch.set_num_threads(all_threads)
    for (op, threads, n), timing in best.items():
        yield Point(op, threads, n, timing)


def fits(points: list[Point]) -> list[Fit]:
    """One for each op and number of threads, of least squared relative error."""
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
