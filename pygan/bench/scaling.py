"""Time against the number of elements and of threads, and how well c + N / rate describes it."""

from __future__ import annotations

import math
from collections.abc import Iterator
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


def measure(device: torch.device, *, greatest: int, seconds: float) -> Iterator[Point]:
    """The points, for one thread and for as many as are set, N a power of 4 up to `greatest`."""
    all_threads = torch.get_num_threads()
    stream = pygan.NoiseStream(0, device=device)
    sizes = [4**k for k in range(math.ceil(math.log(greatest, 4)) + 1) if 4**k <= greatest]
    for threads in sorted({1, all_threads}) if device.type == "cpu" else [all_threads]:
        torch.set_num_threads(threads)
        for n in sizes:
            a, b = (torch.randn(n, device=device) for _ in range(2))
            calls = {
                "discriminator_loss, forward": lambda a, b: fused_losses.discriminator_loss(a, b),
                "discriminator_loss_and_grad": lambda a, b: (
                    fused_losses.discriminator_loss_and_grad(a, b)
                ),
                "instance_noise(out=)": lambda a, b: pygan.instance_noise(
                    a, 0.5, stream=stream, out=b
                ),
            }
            times = interleaved(calls, [(a, b)], device=device, seconds=seconds)
            for op, timing in times.items():
                yield Point(op, threads, n, timing)
    torch.set_num_threads(all_threads)


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
