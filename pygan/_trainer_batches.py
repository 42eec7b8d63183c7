"""The batches of GANTrainer's steps: their checks, a process's share of them, and their micro-batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pygan import _parallel as parallel
from pygan import _trainer_checks as checked
from pygan import _trees as trees
from pygan._validation import check_int, describe
from pygan.stream import NoiseStream


class Share(NamedTuple):
    """A process's part of a batch."""

    first: int | None
    """Index of its first sample; None if one process has the whole batch."""
    weight: float
    """Weight of the mean over its samples in the mean over the processes."""
    total: int
    """Number of samples of the whole batch."""


class Batch(NamedTuple):
    """The data of one network's step."""

    n: int
    real: Tensor | None
    latent: Tensor | None
    labels: Any
    """A tensor, or a tree of tensors."""
    share: Share


class MicroBatch(NamedTuple):
    """A micro-batch."""

    n: int
    real: Tensor | None
    latent: Tensor | None
    labels: Any
    weight: float
    """Its fraction of the process's samples."""
    first: bool
    last: bool


def one_per_step(given: Tensor | Sequence[Tensor], d_steps: int) -> Sequence[Tensor]:
    """The real batches of one iteration, one for each discriminator step."""
    if isinstance(given, Tensor):
        batches: Sequence[Tensor] = (given,)
    elif isinstance(given, (list, tuple)):
        batches = given
    else:
        raise TypeError(
            "GANTrainer.step: real must be a tensor or a sequence of tensors (one per discriminator step), "
            f"got {type(given).__name__}"
        )
    if len(batches) != d_steps:
        hint = " (a batch and its labels are step(x, labels))" if len(batches) == 2 else ""
        raise ValueError(
            f"GANTrainer.step: real must hold one batch for each of the {d_steps} discriminator step(s), "
            f"got {len(batches)}{hint}"
        )
    for batch in batches:
        checked.batch("step", "real", batch)
    dims = [batch.dim() for batch in batches]
    if len(set(dims)) > 1:
        raise ValueError(
            "GANTrainer.step: real must hold batches with the same number of dimensions, one per discriminator step "
            f"(a batch and its labels are step(x, labels)), got {dims}"
        )
    return batches


def labels_per_step(
    given: Any, real: Tensor | Sequence[Tensor], reals: Sequence[Tensor]
) -> list[Any]:
    """The labels of each real batch, given like the batches: directly, or in a sequence."""
    labels = given
    if given is None or isinstance(real, Tensor):
        labels = [given] * len(reals)
    elif not isinstance(given, (list, tuple)):
        raise TypeError(
            "GANTrainer.step: labels must be a sequence like real, with the labels of each batch, got "
            f"{describe(given)}"
        )
    if len(labels) != len(reals):
        raise ValueError(
            f"GANTrainer.step: labels must hold labels for each of the {len(reals)} batches, got {len(labels)}"
        )
    for its_labels, batch in zip(labels, reals, strict=True):
        checked.labels("step", its_labels, len(batch))
    return list(labels)


def totals_per_step(total: int | Sequence[int] | None, d_steps: int) -> list[int | None]:
    """The sizes of the whole batches, one per discriminator step."""
    totals: Any = total if isinstance(total, (list, tuple)) else [total] * d_steps
    if len(totals) != d_steps:
        raise ValueError(
            f"GANTrainer.step: total must be an int or {d_steps} of them, got {len(totals)}"
        )
    return list(totals)


def share_of(verb: str, n: int, total: int | None, *, is_parallel: bool) -> Share:
    """The process's share, n samples of a batch of `total`."""
    if total is not None:
        check_int(f"GANTrainer.{verb}", "total", total)
    if is_parallel:
        return Share(*parallel.first_of_share(f"GANTrainer.{verb}", n, total))
    if total is not None and total != n:
        raise ValueError(
            f"GANTrainer.{verb}: total must be the batch's {n} samples if no network is wrapped or "
            f"sharded for several processes, got {total}"
        )
    return Share(None, 1.0, n)


def micro_batches_of(batch: Batch, micro_batches: int) -> Iterable[MicroBatch]:
    """The micro-batches of a batch."""
    n, share = batch.n, batch.share
    # The same number in all processes: LeCam reduces over the processes in each micro-batch.
    least = n if share.first is None else share.total // torch.distributed.get_world_size()
    count = max(1, min(micro_batches, least))
    if count == 1:
        return [MicroBatch(*batch[:4], 1.0, True, True)]
    return _split(batch, count)


def _split(batch: Batch, count: int) -> Iterator[MicroBatch]:
    n = batch.n
    sizes = [n // count + (i < n % count) for i in range(count)]
    for i, size in enumerate(sizes):
        rows = slice(sum(sizes[:i]), sum(sizes[: i + 1]))
        real, latent, labels = (trees.mapped(itemgetter(rows), x) for x in batch[1:4])
        if latent is not None:
            # Not a view: a change in place would tie the graphs of all micro-batches together.
            latent = latent.clone()
        yield MicroBatch(size, real, latent, labels, size / n, i == 0, i == count - 1)


def placed(streams: list[NoiseStream], share: Share) -> AbstractContextManager[None]:
    """Context manager in which the streams draw for each sample what a single process would draw."""
    return parallel.NOTHING if share.first is None else _starting_at(streams, share.first)


@contextmanager
def _starting_at(streams: list[NoiseStream], first: int) -> Iterator[None]:
    for stream in streams:
        stream.first_sample = first
    try:
        yield
    finally:
        for stream in streams:
            stream.first_sample = None
