"""The losses: single tensors of logits, lists of them, statistics."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from pygan import fused_losses
from pygan.bench import baselines
from pygan.bench.case import WORK, Case, in_a_step, with_gradients, without_gradients

__all__ = ["hifigan", "list_of_8", "single", "statistics"]

# The logits of HiFi-GAN's discriminators (Kong et al. 2020: three scales, five periods) on a batch of 16 segments of
# 8,192 samples.
LISTS = tuple((16, n) for n in (128, 65, 33, 102, 102, 105, 105, 110))


def _loss_and_grad(player: str, loss: str) -> Callable[..., Any]:
    """Loss and gradients in one call, and the backward pass from the logits."""
    if player == "discriminator":
        direct = fused_losses.discriminator_loss_and_grad
        return lambda r, f: direct(r, f, loss=loss).backward(r, f)
    if fused_losses.compares(loss):
        both = fused_losses.generator_loss_and_grad
        return lambda r, f: both(f, real_logits=r, loss=loss).backward(f, r)
    return lambda r, f: fused_losses.generator_loss_and_grad(f, loss=loss).backward(f)


def single(
    player: str,
    loss: str,
    op: str,
    sizes: Sequence[int],
    dtype: torch.dtype,
    device: torch.device,
) -> Iterator[Case]:
    for n in sizes:
        yield from _loss(player, loss, op, n, dtype, device)


def _loss(
    player: str, loss: str, op: str, n: int, dtype: torch.dtype, device: torch.device
) -> Iterator[Case]:
    compared = fused_losses.compares(loss)
    tensors = 2 if player == "discriminator" or compared else 1
    # relativistic_average needs a first pass over the logits for its two means.
    read = tensors * n * dtype.itemsize * (2 if "relativistic_average" in loss else 1)
    written = tensors * n * dtype.itemsize
    eager = baselines.eager(player, loss)
    for work in WORK:
        backward = work != "forward"
        wrap = with_gradients if backward else without_gradients
        calls = {name: wrap(call) for name, call in eager.items()}
        ours = baselines.fused(player, loss)
        calls["pygan"] = in_a_step(_loss_and_grad(player, loss)) if work == WORK[2] else wrap(ours)

        buffers = functools.partial(_logits, n, dtype, device)
        moved = read + (written if backward else 0)
        yield Case(op, work, dtype, n, moved, 0, buffers, calls, eager["expression"], wrap)


def _logits(n: int, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    return [torch.randn(n, dtype=dtype, device=device, requires_grad=True) for _ in range(2)]


def list_of_8(
    loss: str, op: str, sizes: Sequence[int], dtype: torch.dtype, device: torch.device
) -> Iterator[Case]:
    def each(r: list[Tensor], f: list[Tensor]) -> Any:
        return sum(baselines.DISCRIMINATOR[loss](a, b) for a, b in zip(r, f, strict=True))

    def buffers() -> list[list[Tensor]]:
        return [
            [torch.randn(s, dtype=dtype, device=device, requires_grad=True) for s in LISTS]
            for _ in range(2)
        ]

    n = sum(a * b for a, b in LISTS)
    read = (4 if "relativistic_average" in loss else 2) * n * dtype.itemsize
    moved = read + 2 * n * dtype.itemsize
    ours = with_gradients(baselines.fused("discriminator", loss))
    direct = in_a_step(_loss_and_grad("discriminator", loss))
    for work, call in ((WORK[1], ours), (WORK[2], direct)):
        calls = {"expression": with_gradients(each), "pygan": call}
        yield Case(op, work, dtype, n, moved, 0, buffers, calls, each, with_gradients)


def hifigan(
    player: str, op: str, sizes: Sequence[int], dtype: torch.dtype, device: torch.device
) -> Iterator[Case]:
    """HiFi-GAN's losses over its 8 discriminators, with the value of each one that its training logs, compared with its
    loop. The values stay on the device in both."""
    d = player == "discriminator"

    def loop(*lists: list[Tensor]) -> Any:
        loss: Any = 0
        values = []
        for logits in zip(*lists, strict=True):
            terms = [torch.mean((1 - logits[0]) ** 2), *(torch.mean(x**2) for x in logits[1:])]
            values += [term.detach() for term in terms]
            loss = loss + sum(terms)
        return loss

    def ours(*lists: list[Tensor]) -> Any:
        function = fused_losses.discriminator_loss if d else fused_losses.generator_loss
        return function(*lists, loss="least_squares", weights=2, return_parts=True)[0]

    def direct(*lists: list[Tensor]) -> None:
        both = (
            fused_losses.discriminator_loss_and_grad if d else fused_losses.generator_loss_and_grad
        )
        both(*lists, loss="least_squares", weights=2, return_parts=True).backward(*lists)

    def buffers() -> list[list[Tensor]]:
        made = [torch.randn(s, dtype=dtype, device=device, requires_grad=True) for s in LISTS * 2]
        return [made[: len(LISTS)], made[len(LISTS) :]][: 2 if d else 1]

    n = sum(a * b for a, b in LISTS)
    moved = (4 if d else 2) * n * dtype.itemsize
    for work, call in ((WORK[1], with_gradients(ours)), (WORK[2], in_a_step(direct))):
        calls = {"expression": with_gradients(loop), "pygan": call}
        yield Case(op, work, dtype, n, moved, 0, buffers, calls, loop, with_gradients)


def statistics(op: str, n: int, dtype: torch.dtype, device: torch.device) -> Case:
    """The loss with return_stats, compared with the loss and the dozen ops that the statistics replace."""

    def eager(r: Tensor, f: Tensor) -> Tensor:
        with torch.no_grad():
            for x, right in ((r, r > 0), (f, f < 0)):
                x.mean(), x.sigmoid().mean(), right.float().mean(), (~x.isfinite()).sum()
            r.sign().mean()
        return baselines.DISCRIMINATOR["non_saturating"](r, f)

    def ours(r: Tensor, f: Tensor) -> Any:
        return fused_losses.discriminator_loss(r, f, return_stats=True)[0]

    calls = {"expression": with_gradients(eager), "pygan": with_gradients(ours)}
    buffers = functools.partial(_logits, n, dtype, device)
    moved = 4 * n * dtype.itemsize
    return Case(op, WORK[1], dtype, n, moved, 0, buffers, calls, eager, with_gradients)
