"""The order of the data: batch t of a run is a function of the seed and t, so that a run resumes by starting at t."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Batch", "BatchSampler", "derived_seed", "share"]


def derived_seed(*parts: int | str) -> int:
    """A seed of 63 bits for one purpose: independent of those of other parts.

    Hashed, because torch's CPU generator looks at the low 32 bits of its seed alone.
    """
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def share(total: int, rank: int, world: int) -> range:
    """Process `rank`'s part of `total` samples: contiguous, by torch.tensor_split's rule, by which the first
    ``total % world`` parts have one more than the others."""
    least, more = divmod(total, world)
    first = rank * least + min(rank, more)
    return range(first, first + least + (rank < more))


class Batch(NamedTuple):
    """One process's part of a batch."""

    epoch: int
    indices: Tensor
    """int64, (N,): of this process's samples in the data set."""
    total: int
    """Number of samples of all processes together."""


class BatchSampler:
    """All batches of a run, of any length. Each epoch is a random permutation of the data, cut into batches.

    Args:
        size: number of samples in the data set.
        batch_size: samples in a batch of all processes together.
        seed: of the permutations.
        rank, world: this process, and how many there are.
        drop_last: leave out what remains of an epoch after its whole batches. If not, it is a batch of its own,
            except where it has fewer samples than there are processes.

    Raises:
        ValueError: there would be no batch, or not a sample for each process in one.
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
        if batch_size < world:
            raise ValueError(
                f"pygan.fit: batch_size must be at least the number of processes, {world}, got {batch_size}"
            )
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
        """This process's part of batch t of the run, counted from 0."""
        epoch, i = divmod(t, self.batches_per_epoch)
        whole = self.order(epoch)[i * self.batch_size : (i + 1) * self.batch_size]
        mine = share(len(whole), self.rank, self.world)
        return Batch(epoch, whole[mine.start : mine.stop], len(whole))

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """This process's parts of the batches from `start` to before `stop`."""
        return map(self.batch, range(start, stop))
