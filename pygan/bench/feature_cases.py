"""Feature matching over the maps of HiFi-GAN's discriminators."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pygan import fused_losses
from pygan.bench.case import WORK, Case, in_a_step, with_gradients, without_gradients

__all__ = ["hifigan", "shapes"]

LENGTH = 8192
"""Length of a training sample (Kong et al. 2020, section 3.1), which has 7.7 million elements in its 54 maps."""


def shapes(batch: int, length: int = LENGTH) -> list[tuple[int, ...]]:
    """The shapes of the maps of v1 (Kong et al. 2020): five periods with six layers each, three scales with eight."""
    found: list[tuple[int, ...]] = []
    for period in (2, 3, 5, 7, 11):
        height = -(-length // period)
        for layer, channels in enumerate((32, 128, 512, 1024, 1024, 1)):
            if layer < 4:
                height = (height - 1) // 3 + 1
            found.append((batch, channels, height, period))
    strides = (1, 2, 2, 4, 4, 1, 1, 1)
    for scale in range(3):
        width = max(1, length >> scale)
        for channels, stride in zip((128, 128, 256, 512, 1024, 1024, 1024, 1), strides):
            width = (width - 1) // stride + 1
            found.append((batch, channels, width))
    return found


def hifigan(
    op: str, sizes: Sequence[int], dtype: torch.dtype, device: torch.device
) -> Iterator[Case]:
    """A row for each size and kind of work. Sizes are reached by shorter samples or larger batches, with at least one
    value in each map. The baseline is the loop over the maps with F.l1_loss."""

    def loop(fake: list[Tensor], real: list[Tensor]) -> Any:
        return 2 * sum(F.l1_loss(f, r) for f, r in zip(fake, real, strict=True))

    def ours(fake: list[Tensor], real: list[Tensor]) -> Tensor:
        loss: Tensor = fused_losses.feature_matching(fake, real, weights=2)
        return loss

    def direct(fake: list[Tensor], real: list[Tensor]) -> None:
        _, grads = fused_losses.feature_matching_and_grad(fake, real, weights=2)
        torch.autograd.backward(fake, grads)

    whole = _elements(shapes(1))
    found = {(max(1, round(n / whole)), max(1, min(LENGTH, n * LENGTH // whole))) for n in sizes}
    by_size = {_elements(shapes(*of)): shapes(*of) for of in found}
    for n, maps in sorted(by_size.items()):
        buffers = functools.partial(_buffers, maps, dtype, device)
        for work in WORK:
            backward = work != "forward"
            wrap = with_gradients if backward else without_gradients
            call = in_a_step(direct) if work == WORK[2] else wrap(ours)
            calls = {"expression": wrap(loop), "pygan": call}
            moved = (3 if backward else 2) * n * dtype.itemsize
            yield Case(op, work, dtype, n, moved, 0, buffers, calls, loop, wrap)


def _elements(maps: list[tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in maps)


def _buffers(
    maps: list[tuple[int, ...]], dtype: torch.dtype, device: torch.device
) -> list[list[Tensor]]:
    return [
        [torch.randn(shape, dtype=dtype, device=device, requires_grad=i == 0) for shape in maps]
        for i in range(2)
    ]
