"""Reference times that a row is held against, measured in the same run: dispatch, copy and normals.

They are what other calls take, not lower bounds: a loss of one tensor needs less of autograd than the two numbers that
`backward` adds up, and two times of one run differ by its noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

import pygan
from pygan import _ops
from pygan.bench.case import WORK
from pygan.bench.timing import interleaved

__all__ = ["Limits", "copy", "draw", "measured"]


@dataclass(frozen=True)
class Limits:
    """In µs a call.

    forward: a copy of one byte, the least that an op of the dispatcher takes; backward: the least loss, the sum of two
    numbers that the least of ops made, and its backward pass; engine: these numbers, and autograd's engine from there.
    """

    forward: float
    backward: float
    engine: float

    def of(self, work: str, copied: float, drawn: float) -> tuple[float, str]:
        """The greatest of a row's limits in µs, and which it is. `copied`: the time of copying as many bytes; `drawn`:
        of drawing as many normals."""
        floors = dict(zip(WORK, (self.forward, self.backward, self.engine)))
        roofs = {"dispatch": floors[work], "copy": copied, "normals": drawn}
        if copied < 2 * self.forward:  # then it is mostly dispatch itself
            del roofs["copy"]
        name = max(roofs, key=lambda key: roofs[key])
        return roofs[name], name


def copy(moved: int, device: torch.device) -> tuple[Callable[..., Any], Callable[[], list[Any]]]:
    """A pass that only reads and writes, `moved` bytes in all; and what makes its buffers."""
    half = max(1, moved // 2)

    def buffers() -> list[Any]:
        return [torch.zeros(half, dtype=torch.uint8, device=device) for _ in range(2)]

    return lambda source, target: target.copy_(source), buffers


def draw(device: torch.device) -> tuple[Callable[..., Any], int]:
    """pygan's generator into a buffer that stays in the caches, on all threads; and how many normals that is."""
    # A quarter of a second-level cache for each thread of a CPU; enough for every core of a GPU.
    n = (1 << 16) * torch.get_num_threads() if device.type == "cpu" else 1 << 22
    x, stream = torch.zeros(n, device=device), pygan.NoiseStream(0, device=device)
    return lambda *_: pygan.instance_noise(x, 1.0, stream=stream, out=x), n


def measured(device: torch.device, seconds: float) -> Limits:
    """The limits that hold for every row."""
    a, b = (torch.zeros((), device=device, requires_grad=True) for _ in range(2))
    least, pair = copy(2, device)
    source, target = pair()

    def backward() -> None:
        a.grad = b.grad = None
        (a.view_as(a) + b.view_as(b)).backward()  # type: ignore[no-untyped-call]

    def engine() -> None:
        a.grad = b.grad = None
        _ops.backward([a.view_as(a), b.view_as(b)], [one, one])

    one = torch.ones((), device=device)
    calls = {"forward": lambda: least(source, target), "backward": backward, "engine": engine}
    times = interleaved(calls, [()], device=device, seconds=seconds)
    return Limits(**{name: timing.median for name, timing in times.items()})
