"""A reading: the monitor's data from the device, taken every `every` steps in one asynchronous copy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pygan._parallel import unwrapped
from pygan.monitor.diversity import measures
from pygan.trainer import GANTrainer, TrainStats

__all__ = ["COLUMNS", "Reading", "Transfer"]

STATS = TrainStats._fields
_SAMPLES = ("real_number", "fake_number", "energy")
MEASURES = ("g_grad", "g_param", "d_grad", "d_param", *_SAMPLES, *(f"label_{x}" for x in _SAMPLES))
COLUMNS = (*STATS, *MEASURES)
"""The columns stored for a reading: the means of the statistics over its steps, the norms of gradients and parameters,
and the six numbers of diversity.py."""


class Reading(NamedTuple):
    """A reading on the host: the result of a Transfer."""

    steps: list[int]
    stats: list[list[float]]
    """One row per step."""
    measures: list[float]
    nonfinite_parameters: list[str]
    """Names of the parameters whose norm is not finite, the generator's first."""

    def ready(self) -> bool:
        return True

    def read(self) -> Reading:
        return self

    def row(self) -> list[float]:
        """The values of COLUMNS."""
        means = [sum(column) / len(column) for column in zip(*self.stats, strict=True)]
        # Readings of earlier versions, from a state dict, have fewer measures.
        missing = [math.nan] * (len(MEASURES) - len(self.measures))
        return [*means, *self.measures, *missing]


class Transfer:
    """A reading in transfer from the device: the constructor queues the work, and `ready` says when it is done.

    On CUDA, the numbers are copied to pinned memory, followed by an event. On other devices they are available at once.
    """

    def __init__(self, block: Sequence[tuple[int, TrainStats]], trainer: GANTrainer) -> None:
        self._steps = [step for step, _ in block]
        self._names: list[str] = []
        self._sizes: list[int] = []
        stats = torch.stack([value for _, stats in block for value in stats])
        pieces = [stats]
        for prefix, network in (("G", trainer.generator), ("D", trainer.discriminator)):
            named = [(n, p) for n, p in unwrapped(network).named_parameters() if p.numel()]
            grads = [p.grad for _, p in named if p.grad is not None]
            self._names += [f"{prefix}.{name}" for name, _ in named]
            for tensors in (grads, [p for _, p in named]):
                norms = _norms(tensors)
                self._sizes.append(len(norms))
                pieces += norms
        pieces.append(measures(trainer.real, trainer.fake, trainer.labels))
        device, dtype = stats.device, torch.promote_types(stats.dtype, torch.float32)
        flat = torch.cat(
            [piece.detach().to(device, dtype, non_blocking=True).flatten() for piece in pieces]
        )
        self._event: torch.cuda.Event | None = None
        if flat.is_cuda:
            self._values = torch.empty(flat.shape, dtype=flat.dtype, pin_memory=True)
            self._values.copy_(flat, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(device))
        else:
            self._values = flat.cpu()

    def ready(self) -> bool:
        return self._event is None or self._event.query()  # type: ignore[no-untyped-call]

    def read(self) -> Reading:
        """The numbers; synchronizes if they are not ready."""
        if self._event is not None:
            self._event.synchronize()
        values = self._values.tolist()
        width = len(STATS)
        split = width * len(self._steps)
        stats = [values[i : i + width] for i in range(0, split, width)]
        norms: list[list[float]] = []
        for size in self._sizes:
            norms.append(values[split : split + size])
            split += size
        of_parameters = norms[1] + norms[3]
        bad = [
            name
            for name, norm in zip(self._names, of_parameters, strict=True)
            if not math.isfinite(norm)
        ]
        totals = [math.hypot(*each) if each else math.nan for each in norms]
        return Reading(self._steps, stats, totals + values[split:], bad)


def _norms(tensors: Sequence[Any]) -> list[Tensor]:
    """The norm of each tensor, or of the local shard of a sharded one, in one launch."""
    local = [t.to_local() if hasattr(t, "to_local") else t for t in tensors]
    if not local:
        return []
    wide = any(t.dtype == torch.float64 for t in local)
    with torch.no_grad():
        return list(torch._foreach_norm(local, 2.0, dtype=torch.float64 if wide else torch.float32))
