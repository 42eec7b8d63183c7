"""Reference times for a row, measured in the same run: dispatch, copy and normals.

They are the times of other calls, not lower bounds: a loss of one tensor needs less of autograd than the two numbers
that `backward` adds, and times within a run differ by measurement noise.
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

__all__ = ["Limits", "copy", "draw", "measure"]


@dataclass(frozen=True)
class Limits:
    """Times in µs per call.

    forward: a copy of one byte, the cheapest dispatched op; backward: the cheapest loss, the sum of two outputs of the
    cheapest op, and its backward pass; engine: these outputs, and the backward pass from there.
    """

    forward: float
    backward: float
    engine: float

    def of(self, work: str, copied: float, drawn: float) -> tuple[float, str]:
        """The largest reference time for a row in µs, and its name. `copied`: time to copy as many bytes; `drawn`: time
        to draw as many normals."""
        floors = dict(zip(WORK, (self.forward, self.backward, self.engine)))
        roofs = {"dispatch": floors[work], "copy": copied, "normals": drawn}
        if copied < 2 * self.forward:  # the copy itself is mostly dispatch
            del roofs["copy"]
        name = max(roofs, key=lambda key: roofs[key])
        return roofs[name], name


def copy(moved: int, device: torch.device) -> tuple[Callable[..., Any], Callable[[], list[Any]]]:
    """A copy that reads and writes `moved` bytes in total, and a function that creates its buffers."""
    half = max(1, moved // 2)

    def buffers() -> list[Any]:
        return [torch.zeros(half, dtype=torch.uint8, device=device) for _ in range(2)]

    return lambda source, target: target.copy_(source), buffers


def draw(device: torch.device) -> tuple[Callable[..., Any], int]:
    """A call that draws normals into a buffer that stays in the caches, on all threads; and their number."""
    # On a CPU, a quarter of a second-level cache per thread; on a GPU, enough for every core.
    n = (1 << 16) * torch.get_num_threads() if device.type == "cpu" else 1 << 22
    x, stream = torch.zeros(n, device=device), pygan.NoiseStream(0, device=device)
    return lambda *_: pygan.instance_noise(x, 1.0, stream=stream, out=x), n


def measure(device: torch.device, seconds: float) -> Limits:
    """Measure the references that apply to every row."""
    a, b = (torch.zeros((), device=device, requires_grad=True) for _ in range(2))
    copy_byte, buffers = copy(2, device)
    source, target = buffers()

    def backward() -> None:
        a.grad = b.grad = None
        (a.view_as(a) + b.view_as(b)).backward()  # type: ignore[no-untyped-call]

    def engine() -> None:
        a.grad = b.grad = None
        _ops.backward([a.view_as(a), b.view_as(b)], [one, one])

    one = torch.ones((), device=device)
    calls = {"forward": lambda: copy_byte(source, target), "backward": backward, "engine": engine}
    times = interleaved(calls, [()], device=device, seconds=seconds)
    return Limits(**{name: timing.median for name, timing in times.items()})
