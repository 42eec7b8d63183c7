"""Whole training steps: plain PyTorch, the same loop with pygan's functions, and GANTrainer; on CUDA also as a graph.

A step is a discriminator step and a generator step, with Adam and instance noise. By hand means what a careful user
writes: the other network frozen, gradients set to None; with pygan statistics are kept too, in plain PyTorch none are.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import Adam
from torch.profiler import ProfilerActivity, profile

import pygan
from pygan import fused_losses
from pygan.bench.counting import Counts, counted
from pygan.bench.models import LATENT, MODELS, Model
from pygan.bench.timing import Timing, peak_memory, samples, summary, synchronize
from pygan.penalties import R1

__all__ = ["Step", "measure", "write_traces"]

SIGMA = 0.1
PLAIN, BY_HAND, TRAINER = "plain PyTorch", "pygan, by hand", "GANTrainer"
CAPTURED = "GANTrainer, one CUDA graph"


@dataclass
class Step:
    """One way to take a step of one model: time and processor time of all threads in µs, memory in bytes; and its time
    as a multiple of the other ways', the median over the rounds in which all were timed (None: not one of them)."""

    model: str
    way: str
    time: Timing
    to_plain: float | None
    to_by_hand: float
    cpu: float
    counts: Counts
    memory: int

    def flat(self) -> dict[str, Any]:
        """For a line of a table of numbers."""
        row = {k: v for k, v in asdict(self).items() if k not in ("time", "counts")}
        for part in ("median", "low", "high"):
            row[f"{part}_us"] = getattr(self.time, part)
        row["cpu_us"] = row.pop("cpu")
        return row | {"ops": self.counts.ops, "kernels": self.counts.kernels}


def _made(model: Model, device: torch.device, **options: Any) -> tuple[Any, ...]:
    torch.manual_seed(0)
    G, D = (net.to(device) for net in model.make())
    return G, D, *(Adam(net.parameters(), lr=1e-4, fused=True, **options) for net in (G, D))


def _trainer(
    model: Model, device: torch.device, gamma: float, **options: Any
) -> Callable[[Tensor], Any]:
    penalties = R1(gamma) if gamma else ()
    return pygan.GANTrainer(
        *_made(model, device, **options), latent=LATENT, noise=SIGMA, penalties=penalties
    ).step


def _captured(model: Model, device: torch.device, gamma: float) -> Callable[[Tensor], Any]:
    """The trainer's step, captured once and replayed: what is left is the GPU's own time."""
    step = _trainer(model, device, gamma, capturable=True)
    batch = torch.zeros(model.batch, *model.shape, device=device)
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):  # the warm-up that capturing asks for
        for _ in range(3):
            step(batch)
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        statistics = step(batch)

    def replay(real: Tensor) -> Any:
        batch.copy_(real)
        graph.replay()
        return statistics

    return replay


def _by_hand(model: Model, device: torch.device, gamma: float) -> Callable[[Tensor], Any]:
    G, D, g_optimizer, d_optimizer = _made(model, device)
    stream = pygan.NoiseStream(0, device=device)
    noise = pygan.InstanceNoise(pygan.schedules.Constant(SIGMA), seed=0).to(device)
    g_parameters, d_parameters = list(G.parameters()), list(D.parameters())

    def latents(n: int) -> Tensor:
        z = torch.zeros(n, LATENT, device=device)
        return pygan.instance_noise(z, 1.0, stream=stream, out=z)

    def train(parameters: list[nn.Parameter], flag: bool) -> None:
        for p in parameters:
            p.requires_grad_(flag)

    def step(real: Tensor) -> tuple[Any, ...]:
        train(g_parameters, False)
        with torch.no_grad():
            fake = G(latents(len(real)))
        if gamma:
            real = real.detach().requires_grad_()
        real_logits = D(noise(real))
        fake_logits = D(noise(fake))
        d_loss, d = fused_losses.discriminator_loss(real_logits, fake_logits, return_stats=True)
        total = d_loss
        if gamma:
            (slope,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True)
            total = d_loss + gamma / 2 * slope.square().flatten(1).sum(1).mean()
        d_optimizer.zero_grad(set_to_none=True)
        total.backward()
        d_optimizer.step()
        train(g_parameters, True)
        train(d_parameters, False)
        fake_logits = D(noise(G(latents(len(real)))))
        g_loss, g = fused_losses.generator_loss(fake_logits, return_stats=True)
        g_optimizer.zero_grad(set_to_none=True)
        g_loss.backward()
        g_optimizer.step()
        train(d_parameters, True)
        return d_loss.detach(), g_loss.detach(), d, g

    return step


def _plain(model: Model, device: torch.device) -> Callable[[Tensor], Any]:
    G, D, g_optimizer, d_optimizer = _made(model, device)

    def noisy(x: Tensor) -> Tensor:
        return x + SIGMA * torch.randn_like(x)

    def bce(logits: Any, target: float) -> Any:
        maps = logits if isinstance(logits, list) else [logits]
        return sum(binary_cross_entropy_with_logits(x, torch.full_like(x, target)) for x in maps)

    def step(real: Tensor) -> None:
        with torch.no_grad():
            fake = G(torch.randn(len(real), LATENT, device=device))
        d_loss = bce(D(noisy(real)), 1.0) + bce(D(noisy(fake)), 0.0)
        d_optimizer.zero_grad(set_to_none=True)
        d_loss.backward()
        d_optimizer.step()
        g_loss = bce(D(noisy(G(torch.randn(len(real), LATENT, device=device)))), 1.0)
        g_optimizer.zero_grad(set_to_none=True)
        g_loss.backward()
        g_optimizer.step()

    return step


def _ways(model: Model, device: torch.device, gamma: float) -> dict[str, Callable[[], Any]]:
    real = torch.randn(model.batch, *model.shape, device=device)
    ways = {} if gamma else {PLAIN: _plain(model, device)}
    ways |= {BY_HAND: _by_hand(model, device, gamma), TRAINER: _trainer(model, device, gamma)}
    if device.type == "cuda":
        ways[CAPTURED] = _captured(model, device, gamma)
    return {name: partial(step, real) for name, step in ways.items()}


def measure(device: torch.device, *, seconds: float, few: bool) -> Iterator[Step]:
    """Every model's ways; with `few` the first model's alone. R1 where there is one map of logits."""
    for name, model in list(MODELS.items())[: 1 if few else None]:
        for gamma in (0.0,) if few or "patch" in name else (0.0, 1.0):
            ways = _ways(model, device, gamma)
            taken = samples(ways, [()], device=device, seconds=seconds)
            plain, by_hand = taken.get(PLAIN), taken[BY_HAND]
            for way, step in ways.items():
                time = summary(taken[way])
                yield Step(
                    model=name + (" with R1" if gamma else ""),
                    way=way,
                    time=time,
                    to_plain=_ratio(taken[way], plain) if plain else None,
                    to_by_hand=_ratio(taken[way], by_hand),
                    cpu=_cpu(step, device, time.median),
                    counts=counted(step),
                    memory=peak_memory(step, list, device),
                )


def _ratio(ours: list[float], theirs: list[float]) -> float:
    """Round by round: what else the machine did then is in both."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _cpu(step: Callable[[], Any], device: torch.device, expected: float) -> float:
    """Processor time of a call in µs, over all threads."""
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
    ways = _ways(list(MODELS.values())[1], device, 0.0)
    for way, file in ((PLAIN, "trace_plain.json"), (TRAINER, "trace_pygan.json")):
        for _ in range(3):
            ways[way]()
        with profile(activities=activities) as trace:
            ways[way]()
            synchronize(device)
        trace.export_chrome_trace(str(folder / file))
        written.append(folder / file)
    return written
