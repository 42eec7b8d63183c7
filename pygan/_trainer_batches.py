"""The batches of GANTrainer's steps: their checks, a process's share of them, and their micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pygan import _parallel as parallel
from pygan import _trainer_checks as checked
from pygan._arguments import check_int
from pygan.stream import NoiseStream


class Share(NamedTuple):
    """A process's part of a batch."""

    first: int | None
    """Index of its first sample; None where one process has the whole batch."""
    weight: float
    """Of the mean over its samples in the mean over the processes."""
    total: int
    """Samples of the whole batch."""


class Part(NamedTuple):
    """A micro-batch."""

    real: Tensor | None
    latent: Tensor
    labels: Tensor | None
    weight: float
    """Its share of the process's samples."""
    first: bool
    last: bool


def one_per_step(
    name: str, given: Tensor | Sequence[Tensor], d_steps: int, hint: str = ""
) -> Sequence[Tensor]:
    """The batches of one iteration, one for each discriminator step; `hint` is for two of them instead of one."""
    if isinstance(given, Tensor):
        batches: Sequence[Tensor] = (given,)
    elif isinstance(given, (list, tuple)):
        batches = given
    else:
        raise TypeError(
            f"GANTrainer.step: {name} must be a tensor or a sequence of tensors (one per discriminator step), "
            f"got {type(given).__name__}"
        )
    if len(batches) != d_steps:
        raise ValueError(
            f"GANTrainer.step: {name} must hold one batch for each of the {d_steps} discriminator step(s), "
            f"got {len(batches)}{hint if len(batches) == 2 else ''}"
        )
    for batch in batches:
        checked.batch("step", name, batch)
    dims = [batch.dim() for batch in batches]
    if len(set(dims)) > 1:
        raise ValueError(
            f"GANTrainer.step: {name} must hold batches of as many dimensions, one for each discriminator step "
            f"(a batch and its labels are step(x, labels)), got {dims}"
        )
    return batches


def totals_per_step(total: int | Sequence[int] | None, d_steps: int) -> list[int | None]:
    """The sizes of whole batches, one for each discriminator step."""
    totals: Any = total if isinstance(total, (list, tuple)) else [total] * d_steps
    if len(totals) != d_steps:
        raise ValueError(
            f"GANTrainer.step: total must be an int or {d_steps} of them, got {len(totals)}"
        )
    return list(totals)


def share_of(verb: str, n: int, total: int | None, *, is_parallel: bool) -> Share:
    """The share that n samples are of a batch of `total`."""
    if total is not None:
        check_int(f"GANTrainer.{verb}", "total", total)
    if is_parallel:
        return Share(*parallel.first_of_share(f"GANTrainer.{verb}", n, total))
    if total not in (None, n):
        raise ValueError(
            f"GANTrainer.{verb}: total must be the batch's {n} samples where no network is wrapped or "
            f"sharded for several processes, got {total}"
        )
    return Share(None, 1.0, n)


def parts_of(
    real: Tensor | None, latent: Tensor, labels: Tensor | None, share: Share, micro_batches: int
) -> Iterator[Part]:
    n = len(latent)
    # Equally many in all processes: LeCam reduces over them in each part.
    least = n if share.first is None else share.total // torch.distributed.get_world_size()
    parts = max(1, min(micro_batches, least))
    if parts == 1:
        yield Part(real, latent, labels, 1.0, True, True)
        return
    split: list[Any] = [
        [None] * parts if x is None else torch.tensor_split(x, parts)
        for x in (real, latent, labels)
    ]
    for i, (x, z, y) in enumerate(zip(*split, strict=True)):
        yield Part(x, z, y, len(z) / n, i == 0, i == parts - 1)


def placed(streams: list[NoiseStream], share: Share) -> AbstractContextManager[None]:
    """Within it, what the streams draw for a sample is what they would draw for it in one process."""
    return parallel.NOTHING if share.first is None else _beginning_at(streams, share.first)


@contextmanager
def _beginning_at(streams: list[NoiseStream], first: int) -> Iterator[None]:
    for stream in streams:
        stream.first_sample = first
    try:
        yield
    finally:
        for stream in streams:
            stream.first_sample = None
