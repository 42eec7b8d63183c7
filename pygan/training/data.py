"""Batches for the trainer, on its device, from tensors or a Dataset in the sampler's order. (For data with their own
order, see loader_data.py.)"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from pygan._validation import check_values, describe
from pygan.training.batch_order import Batch, BatchSampler, derived_seed
from pygan.training.collate import Keys, as_tensor, collate, split_item
from pygan.training.random_state import isolated, seed_all
from pygan.training.signals import ignore_signals

__all__ = ["Data", "Loaded"]

_MAX_LABEL_SAMPLES = 2048  # the most samples of a Dataset that are read for their labels
_CPU = torch.device("cpu")


class Loaded(NamedTuple):
    """One process's share of a batch, on the device."""

    real: Tensor
    labels: Tensor | None
    total: int


class Data:
    """The user's data, with access to each sample by index.

    Args:
        data: a tensor or an array (N, ...); a tuple of two, samples and labels; a mapping that contains them; or a
            map-style Dataset that yields samples, pairs of sample and label, or dicts of these.
        conditional: whether labels are passed on.
        keys: the key of the samples in the mapping or the dicts, or the keys of samples and labels.

    Attributes:
        labeled: whether there are labels.
        dtype: dtype of the samples.

    Raises:
        TypeError, ValueError: unsupported or empty data.
    """

    def __init__(self, data: Any, *, conditional: bool = True, keys: Keys = None) -> None:
        self.conditional = conditional
        self._keys = keys
        self._tensors: Sequence[Tensor] | None = None
        self._dataset: Dataset[Any] | None = None
        self._labels: Tensor | None = None
        is_path = isinstance(data, (str, os.PathLike))  # a str also has a length and items
        if isinstance(data, Mapping):
            if not any(isinstance(x, (Tensor, np.ndarray)) for x in data.values()):
                raise TypeError(
                    f"pygan.fit: a mapping given as data must contain tensors or arrays, got a {type(data).__name__} "
                    f"of {', '.join(map(str, data))}; pass one of its values"
                )
            data, keys = tuple(split_item(data, keys, conditional=True)), None
        if isinstance(data, list):
            # To torch and numpy a list holds samples; a batch of a DataLoader is a list of samples and labels.
            raise TypeError(
                "pygan.fit: data must not be a list, which may hold separate samples or samples and labels, got "
                f"{describe(data)}; pass a tuple (samples, labels), separate tensors as torch.stack(data), or "
                "separate items as a torch.utils.data.Dataset"
            )
        if isinstance(data, (Tensor, np.ndarray)):
            data = (data,)
        if isinstance(data, tuple):
            found = [as_tensor(x) if isinstance(x, np.ndarray) else x for x in data]
            if not 1 <= len(found) <= 2 or not all(isinstance(x, Tensor) for x in found):
                kinds = ", ".join(type(x).__name__ for x in data[:3])
                more = ", ..." if len(data) > 3 else ""
                raise TypeError(
                    "pygan.fit: a tuple or mapping given as data must contain samples and labels, as tensors "
                    f"or arrays, got ({kinds}{more}); pass separate items as a torch.utils.data.Dataset"
                )
            self._tensors = found
            if keys is not None:
                split_item(found[0], keys, conditional=True)  # raises, because it is not a dict
        elif hasattr(data, "__getitem__") and hasattr(data, "__len__") and not is_path:
            self._dataset = data
        else:
            advice = ""
            if is_path:
                advice = "; pygan.datasets.ImageFolder(path, size) reads a folder of images"
            elif hasattr(data, "__iter__"):
                advice = "; if it can be iterated repeatedly, pass it as an IterableDataset of samples, or of "
                advice += "batches in a DataLoader(..., batch_size=None)"
            raise TypeError(
                "pygan.fit: data must be a tensor, an array, a tuple (samples, labels), a Dataset with __getitem__ and "
                f"__len__, an IterableDataset or a DataLoader, got {type(data).__name__}{advice}"
            )
        for x in self._tensors or ():
            check_values("pygan.fit", "data", x)
            if x.dim() == 0:
                raise ValueError("pygan.fit: data must have a first dimension, got a 0-d tensor")
        self.size = len(data) if self._tensors is None else len(self._tensors[0])
        first: Sequence[Tensor] = self._tensors or ()
        if self._dataset is not None and self.size:
            first = self._read([0])  # to find problems with the items before anything is built
        self.labeled = len(first) == 2
        self.dtype = first[0].dtype if first else None
        if any(len(x) != self.size for x in self._tensors or ()):
            raise ValueError(
                f"pygan.fit: data must have a label for each of the {self.size} samples, got {len(data[1])}"
            )

    def description(self) -> int | str:
        """A description that must stay the same when a run is resumed."""
        return self.size

    def order(self, batch_size: int, *, drop_last: bool, **of_run: int) -> Any:
        """The order of the batches: a :class:`BatchSampler`, which gets `of_run` as its other arguments."""
        return BatchSampler(self.size, batch_size, drop_last=drop_last, **of_run)

    def check_networks(self, generator: nn.Module, discriminator: nn.Module, options: Any) -> None:
        """Check that both networks accept the arguments that they will get.

        Args:
            options: the options of GANTrainer, including `latent`.

        Raises:
            TypeError: the samples are integers and nothing converts them.
            ValueError: a network has no argument for the labels; or the generator has neither labels nor a latent.
        """
        converts = options.get("augment") or options.get("discriminator_inputs")
        if self.dtype is not None and not (
            self.dtype.is_floating_point or self.dtype.is_complex or converts
        ):
            raise TypeError(
                "pygan.fit: data must hold floating-point samples in the range of the generated ones, got "
                f"{self.dtype}; convert them (8-bit images: x / 127.5 - 1), or pass augment=, which may convert them"
            )
        has_latent = options.get("latent") is not None
        if not (self.labeled and self.conditional):
            if not has_latent:
                raise ValueError(
                    "pygan.fit: latent must not be None if the data have no labels, or conditional=False omits them, "
                    "got None"
                )
            return
        networks = {}
        if options.get("discriminator_inputs") is None:
            networks["discriminator"] = discriminator, 2
        if options.get("generator_inputs") is None:
            networks["generator"] = generator, 1 + has_latent
        for name, (network, arguments) in networks.items():
            # Unwrap torch.compile, whose forward accepts anything.
            network = getattr(network, "_orig_mod", network)
            try:
                inspect.signature(network.forward).bind(*[None] * arguments)
            except TypeError as error:
                which = "second" if arguments == 2 else "only"
                raise ValueError(
                    f"pygan.fit: {name} must accept the data's labels as its {which} argument, got "
                    f"{type(network).__name__}, whose forward does not ({error}); pass conditional=False to train "
                    f"without labels, or {name}_inputs to choose its arguments"
                ) from None

    def batches(
        self,
        sampler: BatchSampler,
        start: int,
        stop: int,
        *,
        device: torch.device,
        workers: int = 0,
    ) -> Iterator[Loaded]:
        """The batches from `start` to `stop`, exclusive. Randomness in the Dataset is seeded only by the sampler's
        seed, the epoch and the sample's index."""
        if self._tensors is not None:
            for batch in sampler.batches(start, stop):
                chosen = [x[batch.indices.to(x.device)] for x in self._tensors]
                yield self._to_device(chosen, batch.total, device)
            return
        assert self._dataset is not None
        pinned = device.type == "cuda"
        loader = DataLoader(
            cast("Dataset[Any]", _Seeded(self._dataset, sampler.seed, isolate=workers == 0)),
            batch_sampler=_EpochIndexSampler(sampler, start, stop),
            num_workers=workers,
            pin_memory=pinned,
            collate_fn=functools.partial(collate, keys=self._keys, conditional=self.conditional),
            worker_init_fn=ignore_signals if workers else None,
            generator=torch.Generator(),  # without it, the workers' seeds would be drawn from the global generator
        )
        totals = (batch.total for batch in sampler.batches(start, stop))
        batches: Any = iter(loader)
        try:
            for found, total in zip(batches, totals, strict=True):
                yield self._to_device(found, total, device)
        finally:
            # The traceback of an error keeps the iterator and thus its workers alive. They ignore the signal with which
            # Python terminates them at exit, so that it would wait for them forever.
            if workers:
                batches._shutdown_workers()

    def labels(self, n: int, seed: int) -> Tensor | None:
        """n labels drawn at random from the data with replacement; None if there are none.

        The labels of a Dataset are read with its samples; for a large Dataset, only some thousand of them.
        """
        if not self.conditional:
            return None
        if self._labels is None:
            self._labels = self._known_labels()
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randint(max(len(self._labels), 1), (n,), generator=generator)
        return self._labels[chosen.to(self._labels.device)] if len(self._labels) else None

    def sample(self, n: int, seed: int) -> Tensor:
        """At most n different samples, chosen at random, on the CPU or the device of the tensors."""
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(self.size, generator=generator)[:n]
        if self._tensors is not None:
            return self._tensors[0][chosen.to(self._tensors[0].device)]
        return self._read(chosen.tolist())[0]

    def _known_labels(self) -> Tensor:
        if self._tensors is not None:
            return self._tensors[1] if len(self._tensors) == 2 else torch.empty(0)
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randperm(self.size, generator=generator)[:_MAX_LABEL_SAMPLES].tolist()
        found = self._read(chosen)
        return found[1] if len(found) == 2 else torch.empty(0)

    def _read(self, indices: list[int]) -> Sequence[Tensor]:
        """Read items of the Dataset in this process: samples and, if it has any, labels."""
        seeded = _Seeded(self._dataset, 0, isolate=True)
        items = seeded.__getitems__([(0, i) for i in indices])
        return collate(items, keys=self._keys, conditional=self.conditional)

    def _to_device(self, found: Sequence[Tensor], total: int, device: torch.device) -> Loaded:
        found = [x.to(device, non_blocking=True) for x in found]
        labels = found[1] if len(found) == 2 and self.conditional else None
        return Loaded(found[0], labels, total)


class _EpochIndexSampler:
    """The sampler in the form of a DataLoader's batch_sampler: lists of (epoch, index)."""

    def __init__(self, sampler: BatchSampler, start: int, stop: int) -> None:
        self.sampler, self.start, self.stop = sampler, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return map(_epoch_indices, self.sampler.batches(self.start, self.stop))


def _epoch_indices(batch: Batch) -> list[tuple[int, int]]:
    return [(batch.epoch, i) for i in batch.indices.tolist()]


class _Seeded:
    """A Dataset whose items are read with the global generators seeded per item, so that random augmentation does not
    depend on workers, processes or resuming."""

    def __init__(self, dataset: Any, seed: int, *, isolate: bool) -> None:
        self.dataset, self.seed, self.isolate = dataset, seed, isolate

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, keys: list[tuple[int, int]]) -> list[Any]:
        if self.isolate:  # read in the training process
            with isolated(0, _CPU):
                return [self._item(*key) for key in keys]
        return [self._item(*key) for key in keys]

    def _item(self, epoch: int, index: int) -> Any:
        seed_all(derived_seed(self.seed, "item", epoch, index), _CPU)
        return self.dataset[index]
