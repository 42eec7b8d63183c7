"""Instance noise: out of place, in place, on uint8 images, and on pairs of batches."""

from __future__ import annotations

import torch
from torch import Tensor

import pygan
from pygan.bench.case import WORK, Case, without_gradients

__all__ = ["images", "noise", "pair"]


def noise(op: str, n: int, dtype: torch.dtype, device: torch.device) -> Case:
    stream = pygan.NoiseStream(0, device=device)
    into = op.endswith("(out=)")

    def buffers() -> list[Tensor]:
        x = torch.randn(n, dtype=dtype, device=device)
        return [x, torch.empty_like(x)] if into else [x]

    def eager(x: Tensor, *out: Tensor) -> Tensor:
        return x + 0.5 * torch.randn_like(x)

    def ours(x: Tensor, *out: Tensor) -> Tensor:
        return pygan.instance_noise(x, 0.5, stream=stream, out=out[0] if out else None)

    calls = {"expression": without_gradients(eager), "pygan": without_gradients(ours)}
    moved = 2 * n * dtype.itemsize
    return Case(op, WORK[0], dtype, n, moved, n, buffers, calls, eager, without_gradients)


def images(op: str, n: int, dtype: torch.dtype, device: torch.device) -> Case:
    """Stored uint8 images, converted to the discriminator's input."""
    stream = pygan.NoiseStream(0, device=device)

    def buffers() -> list[Tensor]:
        return [torch.randint(0, 256, (n,), dtype=torch.uint8, device=device)]

    def eager(x: Tensor) -> Tensor:
        scaled = x.float() / 127.5 - 1
        return (scaled + 0.1 * torch.randn_like(scaled)).to(dtype)

    def ours(x: Tensor) -> Tensor:
        return pygan.instance_noise(x, 0.1, stream=stream, scale=1 / 127.5, bias=-1.0, dtype=dtype)

    calls = {"expression": without_gradients(eager), "pygan": without_gradients(ours)}
    moved = n * (1 + dtype.itemsize)
    return Case(op, WORK[0], dtype, n, moved, n, buffers, calls, eager, without_gradients)


def pair(op: str, n: int, dtype: torch.dtype, device: torch.device) -> Case:
    """Noisy real and noisy fake samples in one batch, n elements of each."""
    stream = pygan.NoiseStream(0, device=device)

    def buffers() -> list[Tensor]:
        return [torch.randn(1, n, dtype=dtype, device=device) for _ in range(2)]

    def eager(real: Tensor, fake: Tensor) -> Tensor:
        return torch.cat([x + 0.5 * torch.randn_like(x) for x in (real, fake)])

    def two_calls(real: Tensor, fake: Tensor) -> Tensor:
        return torch.cat([pygan.instance_noise(x, 0.5, stream=stream) for x in (real, fake)])

    def ours(real: Tensor, fake: Tensor) -> Tensor:
        return pygan.instance_noise_pair(real, fake, 0.5, stream=stream)

    named = {"expression": eager, "two calls": two_calls, "pygan": ours}
    calls = {name: without_gradients(call) for name, call in named.items()}
    moved = 4 * n * dtype.itemsize
    return Case(op, WORK[0], dtype, n, moved, 2 * n, buffers, calls, eager, without_gradients)
