"""Whole training steps: plain PyTorch, loops with pygan's functions, and GANTrainer, on CUDA also as a graph.

A step is a discriminator step and a generator step, with Adam and instance noise.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from pygan.bench.counting import Counts, counted
from pygan.bench.models import MODELS, Model
from pygan.bench.step_loops import Recipe, by_hand, plain, trainer
from pygan.bench.timing import Timing, peak_memory, samples, summary, synchronize

__all__ = ["Step", "measure", "write_traces"]

PLAIN, BY_HAND, TRAINER = "plain PyTorch", "pygan, by hand", "GANTrainer"
CAPTURED = "GANTrainer, one CUDA graph"
# A training loop repeats one implementation. A single step after another implementation's finds its code and weights in
# no cache, which made a trainer's step 7 % slower than the loop by hand, not 3 %.
SAMPLE_SECONDS = 0.04


@dataclass
class Step:
    """One implementation of a step of one model: time and CPU time of all threads in µs, memory in bytes; and the time
    as a multiple of plain PyTorch's and of the loop by hand with the same options (None if there is no such loop), as
    the median over the rounds."""

    model: str
    way: str
    time: Timing
    to_plain: float
    to_by_hand: float | None
    cpu: float
    counts: Counts
    memory: int

    def flat(self) -> dict[str, Any]:
        """The values by column name, for tables."""
        row = {k: v for k, v in asdict(self).items() if k not in ("time", "counts")}
        for part in ("median", "low", "high"):
            row[f"{part}_us"] = getattr(self.time, part)
        row["cpu_us"] = row.pop("cpu")
        return row | {name: getattr(self.counts, name) for name in ("ops", "kernels", "flops")}


def _captured(model: Model, device: torch.device, recipe: Recipe) -> Callable[[Tensor], Any]:
    """The trainer's captured step, whose time is that of the GPU alone."""
    captured = trainer(model, device, recipe, capturable=True)
    batch = torch.zeros(model.batch, *model.shape, device=device)
    captured.capture(batch)
    captured.step(batch)  # creates the optimizers' states
    return captured.step


PENALTIES = {"": Recipe(), " with R1": Recipe(r1=True), " with R1 and R2": Recipe(True, True)}


def _ways(model: Model, device: torch.device, first: Recipe) -> dict[str, Callable[[], Any]]:
    real = torch.randn(model.batch, *model.shape, device=device)
    faster = first._replace(reuse_fakes=True, joint=True)
    recipes = [first, faster]
    if first == Recipe():
        recipes += [Recipe(reuse_fakes=True), Recipe(joint=True), Recipe(separate=True)]
    ways: dict[str, Callable[[Tensor], Any]] = {PLAIN: plain(model, device, first)}
    ways |= {BY_HAND + recipe.name: by_hand(model, device, recipe) for recipe in (first, faster)}
    ways |= {TRAINER + recipe.name: trainer(model, device, recipe).step for recipe in recipes}
    if device.type == "cuda":
        ways |= {
            CAPTURED + recipe.name: _captured(model, device, recipe) for recipe in (first, faster)
        }
    return {name: partial(step, real) for name, step in ways.items()}


def measure(device: torch.device, *, seconds: float, first_only: bool) -> Iterator[Step]:
    """Measure every implementation for every model, or with `first_only` for the first model without penalties.
    Penalties are measured for models with a single logit map."""
    for name, model in list(MODELS.items())[: 1 if first_only else None]:
        for suffix, recipe in PENALTIES.items():
            if suffix and (first_only or "patch" in name):
                continue
            ways = _ways(model, device, recipe)
            taken = samples(
                ways, [()], device=device, seconds=seconds, sample_seconds=SAMPLE_SECONDS
            )
            for way, step in ways.items():
                time = summary(taken[way])
                its_hand = taken.get(way.replace(TRAINER, BY_HAND))
                yield Step(
                    model=name + suffix,
                    way=way,
                    time=time,
                    to_plain=_ratio(taken[way], taken[PLAIN]),
                    to_by_hand=_ratio(taken[way], its_hand)
                    if its_hand and TRAINER in way
                    else None,
                    cpu=_cpu(step, device, time.median),
                    counts=counted(step),
                    memory=peak_memory(step, list, device),
                )


def _ratio(ours: list[float], theirs: list[float]) -> float:
    """The median ratio of times within a round, in which both were affected by the same load."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _cpu(step: Callable[[], Any], device: torch.device, expected: float) -> float:
    """CPU time of a call over all threads, in µs."""
    calls = max(3, int(2e5 / expected))
    start = time.process_time()
    for _ in range(calls):
        step()
    synchronize(device)
    return 1e6 * (time.process_time() - start) / calls


def write_traces(folder: Any, device: torch.device) -> list[Any]:
    """A torch.profiler trace of one step of the DCGAN, plain and with GANTrainer, for chrome://tracing or Perfetto."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    written = []
    ways = _ways(list(MODELS.values())[1], device, Recipe())
    for way, file in ((PLAIN, "trace_plain.json"), (TRAINER, "trace_pygan.json")):
        for _ in range(3):
            ways[way]()
        with profile(activities=activities) as trace:
            ways[way]()
            synchronize(device)
        trace.export_chrome_trace(str(folder / file))
        written.append(folder / file)
    return written
