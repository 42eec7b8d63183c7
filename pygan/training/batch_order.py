"""The order of the data: batch t of a run is a function of the seed and t, so that a run resumes by starting at t."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Batch", "BatchSampler", "check_batch_size", "derived_seed", "share"]


def derived_seed(*parts: int | str) -> int:
    """A seed of 63 bits for one purpose, independent of the seeds for other parts.

    Hashed, because torch's CPU generator uses only the low 32 bits of its seed.
    """
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def share(total: int, rank: int, world: int) -> range:
    """Process `rank`'s share of `total` samples: contiguous, as torch.tensor_split divides them: the first
    ``total % world`` shares have one more sample than the others."""
    least, more = divmod(total, world)
    first = rank * least + min(rank, more)
    return range(first, first + least + (rank < more))


class Batch(NamedTuple):
    """One process's share of a batch."""

    epoch: int
    indices: Tensor
    """int64, (N,): the indices of this process's samples in the data set."""
    total: int
    """Number of samples in all processes together."""


def check_batch_size(batch_size: int, world: int) -> None:
    """Check that every process gets a part of each batch.

    Raises:
        ValueError: it does not.
    """
    if batch_size < world:
        raise ValueError(
            f"pygan.fit: batch_size must be at least the number of processes, {world}, got {batch_size}"
        )


class BatchSampler:
    """The batches of a run of any length. Each epoch is a random permutation of the data, cut into batches.

    Args:
        size: number of samples in the data set.
        batch_size: samples per batch in all processes together.
        seed: the seed of the permutations.
        rank, world: the rank of this process, and the number of processes.
        drop_last: drop the incomplete batch at the end of each epoch. It is always dropped if it has fewer samples
            than there are processes.

    Raises:
        ValueError: there would be no batch, or batches with fewer samples than there are processes.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = True,
    ) -> None:
        check_batch_size(batch_size, world)
        whole, rest = divmod(size, batch_size)
        self.batches_per_epoch = whole + (not drop_last and rest >= world)
        if not self.batches_per_epoch:
            least = batch_size if drop_last else world
            raise ValueError(
                f"pygan.fit: data must hold at least {least} samples, one batch"
                f"{' (lower batch_size, or set drop_last=False)' if drop_last else ''}, got {size}"
            )
        self.size, self.batch_size, self.seed, self.rank, self.world = (
            size,
            batch_size,
            seed,
            rank,
            world,
        )
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def order(self, epoch: int) -> Tensor:
        """The permutation of an epoch: int64, (size,)."""
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(derived_seed(self.seed, "epoch", epoch))
            self._order = torch.randperm(self.size, generator=generator)
            self._epoch = epoch
        return self._order

    def batch(self, t: int) -> Batch:
        """This process's share of batch t of the run, counted from 0."""
        epoch, i = divmod(t, self.batches_per_epoch)
        whole = self.order(epoch)[i * self.batch_size : (i + 1) * self.batch_size]
        mine = share(len(whole), self.rank, self.world)
        return Batch(epoch, whole[mine.start : mine.stop], len(whole))

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """This process's shares of the batches from `start` to `stop`, exclusive."""
        return map(self.batch, range(start, stop))
