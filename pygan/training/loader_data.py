"""LoaderData: data with their own order, a DataLoader, or an IterableDataset, which `fit` batches."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from pygan.checkpoint import check_plain
from pygan.training.batch_order import derived_seed, share
from pygan.training.collate import collate, split_batch
from pygan.training.data import Data, Loaded
from pygan.training.fit_options import FitOptions
from pygan.training.loader_position import LoaderPosition
from pygan.training.signals import ignore_signals

__all__ = ["LoaderData", "batch_size_of", "data_of"]

_EXHAUSTED: Any = object()  # marks the end of a loader; not None, which is refused as a batch


def batch_size_of(data: Any, options: FitOptions) -> int:
    """The batch size in the options, or else that of the DataLoader.

    Raises:
        TypeError: neither specifies one.
        ValueError: the two differ.
    """
    given, own = options.batch_size, data.batch_size if isinstance(data, DataLoader) else None
    size = own if given is None else given
    if size is None:
        raise TypeError("pygan.fit: batch_size must be given, got none")
    if own not in (None, size):
        raise ValueError(
            f"pygan.fit: batch_size must be that of the DataLoader, {own}, or None, got {given}"
        )
    return size


def data_of(data: Any, options: FitOptions) -> Data:
    """Wrap the user's data, in any form that `fit` accepts.

    Raises:
        TypeError, ValueError: unsupported or empty data, or data that do not fit the options.
    """
    if isinstance(data, (DataLoader, IterableDataset)):
        return LoaderData(data, options)
    return Data(data, conditional=options.conditional, keys=options.data_keys)


class LoaderData(Data):
    """Data that can only be read in their own order, from the start in each epoch.

    Args:
        data: a DataLoader, which is used unchanged, except that its workers ignore signals; or an IterableDataset.
        options: the options of the run, with a batch size.

    Raises:
        TypeError, ValueError: the data yield unsupported items or nothing, or an option has no effect on them.
    """

    def __init__(self, data: DataLoader[Any] | IterableDataset[Any], options: FitOptions) -> None:
        self.conditional, self._labels = options.conditional, None
        self._is_loader = isinstance(data, DataLoader)
        # For an IterableDataset, the keys are used when batches are collated.
        self._keys = options.data_keys if self._is_loader else None
        if isinstance(data, DataLoader):
            _check_loader(data, options)
            self._loader: Any = copy.copy(data)  # a copy, because worker_init_fn is replaced
        else:
            self._loader = DataLoader(
                data,
                batch_size=options.batch_size,
                num_workers=options.workers,
                drop_last=options.drop_last,
                collate_fn=functools.partial(
                    collate, keys=options.data_keys, conditional=options.conditional
                ),
            )
        loader, dataset = self._loader, self._loader.dataset
        loader.worker_init_fn = functools.partial(_init_worker, loader.worker_init_fn)
        is_iterable = isinstance(dataset, IterableDataset)
        self.size = 0 if is_iterable else len(dataset)
        # Each worker can end with a short batch.
        self._short_batches = max(1, loader.num_workers) if is_iterable else 1
        # torchdata's loader itself skips the batches of an IterableDataset without a state, and miscounts them from the
        # second time on.
        self._stateful = None
        if _is_stateful(loader) and (not is_iterable or _is_stateful(dataset)):
            self._stateful = loader
        # (If workers read the dataset, the copy in this process does not advance.)
        if is_iterable and loader.num_workers == 0 and _is_stateful(dataset):
            self._stateful = dataset
        self._first = self._split(self._peek(options.batch_size))
        self.labeled = len(self._first) == 2
        self.dtype = self._first[0].dtype

    def description(self) -> int | str:
        loader = self._loader
        samples = f"{self.size} samples" if self.size else f"a {type(loader.dataset).__name__}"
        if self._is_loader:
            samples += f" in a {type(loader).__name__} with {type(loader.sampler).__name__}"
        return f"{samples}, read by {loader.num_workers} workers"

    def order(self, batch_size: int, *, drop_last: bool, **of_run: int) -> LoaderPosition:
        return LoaderPosition(batch_size, self._stateful, drop_last=drop_last, **of_run)

    def check_processes(self, gather: Callable[[Any], list[Any]]) -> None:
        """Check that every process has read the same first batch.

        Args:
            gather: function from a value to the values of all processes.
        """
        mine = [(list(x.shape), float(x.double().sum())) for x in self._first]
        every = gather(mine)
        for rank, other in enumerate(every):
            if repr(other) != repr(every[0]):  # NaN too
                raise ValueError(
                    "pygan.fit: data must yield the same batches in every process, each of which takes its share of "
                    f"them, got different ones in process {rank}; remove whatever already splits them, such as a "
                    "DistributedSampler"
                )

    def batches(
        self, sampler: Any, start: int, stop: int, *, device: torch.device, workers: int = 0
    ) -> Iterator[Loaded]:
        """``stop - start`` batches from the current position. Randomness in this process is seeded by the seed, the
        epoch and the batch; randomness in workers by the seed and the epoch."""
        position: LoaderPosition = sampler
        if not self._is_loader:
            self._loader.pin_memory = device.type == "cuda"
        left = stop - start
        while left:
            resumed, yielded = position.batch > 0, False
            for found in self._epoch(position):
                mine = share(len(found[0]), position.rank, position.world)
                yield self._to_device(
                    [x[mine.start : mine.stop] for x in found], len(found[0]), device
                )
                left, yielded = left - 1, True
                if not left:
                    return
            if not (resumed or yielded):
                raise _no_batch(position.batch_size)
            position.next_epoch()

    def sample(self, n: int, seed: int) -> Tensor:
        """At most n samples of the first batch."""
        return self._first[0][:n]

    def _known_labels(self) -> Tensor:
        return self._first[1] if self.labeled else torch.empty(0)

    def _peek(self, batch_size: int | None) -> Any:
        """Read the first batch, to find problems before anything is built."""
        position = LoaderPosition(1, None, drop_last=True, seed=0)
        state = self._stateful.state_dict() if self._stateful is self._loader.dataset else None
        iterator = self._iterator(position)
        try:
            first = position.draw(lambda: next(iterator, _EXHAUSTED))
            if self._stateful is not None:
                try:
                    check_plain(self._stateful.state_dict(), "state")
                except TypeError as error:
                    raise TypeError(
                        f"pygan.fit: data must have a state_dict() of plain data: {error}"
                    ) from None
        finally:
            _shut_down_workers(iterator)
        if self._stateful is self._loader.dataset:
            self._stateful.load_state_dict(state)
        if first is _EXHAUSTED:
            raise _no_batch(batch_size)
        return first

    def _epoch(self, position: LoaderPosition) -> Iterator[Sequence[Tensor]]:
        """The remaining batches of the epoch; `position` counts each one before it is yielded."""
        to_skip = position.resume()
        iterator = self._iterator(position)
        try:
            for i in range(to_skip):
                if position.draw(lambda: next(iterator, _EXHAUSTED), i) is _EXHAUSTED:
                    raise ValueError(
                        f"pygan.fit: data must yield at least the {to_skip} batches of the epoch that preceded the "
                        f"checkpoint, got {i}"
                    )
            shorter = 0
            while (batch := position.draw(lambda: next(iterator, _EXHAUSTED))) is not _EXHAUSTED:
                position.batch += 1
                found = self._split(batch)
                n = len(found[0])
                shorter += n < position.batch_size
                position.is_last = (
                    n < position.batch_size and self._stateful is self._loader.dataset
                )
                if n > position.batch_size or shorter > self._short_batches:
                    raise ValueError(
                        f"pygan.fit: data must yield batches of batch_size samples, {position.batch_size}, except at "
                        f"the end of an epoch, got one of {n}"
                    )
                if n == position.batch_size or (not position.drop_last and n >= position.world):
                    yield found
        finally:
            _shut_down_workers(iterator)

    def _iterator(self, position: LoaderPosition) -> Iterator[Any]:
        """A new iterator for the epoch, with all its random generators seeded."""
        loader = self._loader
        # The sampler inside a custom batch_sampler.
        inner = getattr(loader.batch_sampler, "sampler", None)
        owners: tuple[Any, ...] = (
            loader.sampler,
            inner,
            loader.batch_sampler,
            loader.dataset,
            loader,
        )
        for owner in owners:
            if callable(getattr(owner, "set_epoch", None)):
                owner.set_epoch(position.epoch)
        seed = derived_seed(position.seed, "epoch", position.epoch)
        for owner in owners:
            if isinstance(getattr(owner, "generator", None), torch.Generator):
                owner.generator.manual_seed(seed)
        return position.draw(lambda: iter(loader), "workers")

    def _split(self, batch: Any) -> Sequence[Tensor]:
        return split_batch(batch, self._keys, conditional=self.conditional)


def _check_loader(loader: DataLoader[Any], options: FitOptions) -> None:
    if hasattr(loader, "base_dataloader"):
        raise TypeError(
            "pygan.fit: data must be the DataLoader itself, whose batches fit moves and splits, got one prepared by "
            "accelerate"
        )
    if options.workers:
        raise ValueError(
            f"pygan.fit: workers must be 0 for a DataLoader, which has its own num_workers, got {options.workers}"
        )
    if loader.persistent_workers:
        raise ValueError(
            "pygan.fit: a DataLoader given as data must not have persistent_workers, because workers are seeded when "
            "they start, in each epoch, got True; pass its dataset and workers=, which persist for the whole run"
        )
    if loader.drop_last and not options.drop_last:
        raise ValueError(
            "pygan.fit: drop_last must be True for a DataLoader that drops the last batch itself, got False"
        )


def _no_batch(batch_size: int | None) -> ValueError:
    return ValueError(
        f"pygan.fit: data must yield at least one batch of {batch_size} samples in an epoch (lower batch_size, or set "
        "drop_last=False), got none"
    )


def _is_stateful(value: Any) -> bool:
    return all(callable(getattr(value, name, None)) for name in ("state_dict", "load_state_dict"))


def _init_worker(init: Callable[[int], None] | None, worker: int) -> None:
    ignore_signals()
    if init is not None:
        init(worker)


def _shut_down_workers(iterator: Any) -> None:
    """Shut down the workers. They ignore the signal with which Python terminates them at exit, so it would wait."""
    if hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()
