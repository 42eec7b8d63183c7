"""FakePool: past generated samples, so that the discriminator learns from them as well as from new ones."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any, overload

import torch
from torch import Tensor
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_unflatten

from pygan._parallel import is_distributed
from pygan._validation import check_dense, check_int, describe, number
from pygan.noise import instance_noise
from pygan.stream import NoiseStream

__all__ = ["FakePool"]

_OP = "pygan.FakePool"


class FakePool:
    """A pool of past generated samples for the discriminator's step (Shrivastava et al. 2017, "Learning from Simulated
    and Unsupervised Images through Adversarial Training", section 2.3), as used by CycleGAN and pix2pixHD.

        pool = pygan.FakePool(50)
        fake_logits = D(pool(fake))                 # detached; some samples are from earlier steps

        pool = pygan.FakePool(50)
        past, past_labels = pool(fake, labels)      # for a conditional discriminator
        fake_logits = D(past, past_labels)

    While the pool fills, samples are stored and returned unchanged. Once it is full, each sample is exchanged, with
    the given `probability`, for a randomly chosen stored one, which is returned while the new sample takes its slot. No
    slot is chosen twice within a batch. (CycleGAN and pix2pixHD process samples one by one and may return a sample that
    the same batch has just stored; for a batch size of 1 the two are equivalent.)

    The pool never synchronizes with the device, and its random numbers come from a stream there, so that a CUDA graph
    can capture calls of a full pool. The stored samples follow the device of the incoming ones. In distributed
    training, each process has its own pool and state.

    Args:
        size: number of samples to store.
        probability: probability of an exchange, above 0, up to 1.
        seed: 64-bit seed; None draws one from PyTorch's default generator, so that `torch.manual_seed` reproduces a
            run.

    Attributes:
        size, probability: as given.
        stream: the :class:`pygan.NoiseStream` that decides slots and exchanges; a call that only fills the pool draws
            nothing from it.

    ``len(pool)`` is the number of samples stored. `state_dict()` holds the samples and the position in the stream; any
    pool of the same size that loads it continues bit for bit.

    Raises:
        TypeError, ValueError: an argument is not a number, or is out of range.
    """

    def __init__(
        self, size: int = 50, *, probability: float = 0.5, seed: int | None = None
    ) -> None:
        check_int(_OP, "size", size)
        self.size, self.probability = size, number(_OP, "probability", probability)
        if not 0.0 < self.probability <= 1.0:
            raise ValueError(
                f"{_OP}: probability must be above 0 and at most 1, got {probability!r}"
            )
        if seed is None:
            seed = int(torch.randint(2**63 - 1, (), dtype=torch.int64))
        self.stream = NoiseStream(seed)
        # A normal falls below the threshold with the probability of an exchange.
        normal = statistics.NormalDist()
        self._threshold = (
            float("inf") if self.probability == 1.0 else normal.inv_cdf(self.probability)
        )
        self._filled = 0  # on the host: it depends only on the batch sizes
        self._stored: dict[str, Tensor] = {}  # (size, ...), by the path in (fake, labels)

    def __len__(self) -> int:
        return self._filled

    def __repr__(self) -> str:
        return f"FakePool({self.size}, probability={self.probability}, stored={self._filled})"

    @overload
    def __call__(self, fake: Tensor) -> Tensor: ...

    @overload
    def __call__(self, fake: Tensor, labels: Any) -> tuple[Tensor, Any]: ...

    @torch.no_grad()
    def __call__(self, fake: Tensor, labels: Any = None) -> Any:
        """N samples, detached; with labels, the samples and the labels that belong to each.

        Args:
            fake: (N, ...), of any dtype; the sample shape and the dtype must be the same in every call. N is at most
                `size` and may vary between calls.
            labels: data that belongs to each sample, such as its condition: a tensor (N, ...), or a tree (tuples,
                lists, dicts) of such tensors, with the same structure in every call.

        Raises:
            TypeError: samples or labels that are not tensors, or whose dtype differs from the stored ones.
            ValueError: an empty batch or one larger than the pool; labels for another number of samples; a shape
                or tree that differs from the stored ones; several devices.
            RuntimeError: a CUDA graph is captured before the pool is full; or as for :func:`pygan.instance_noise`.
            After an error the pool is unchanged.
        """
        given, rebuild = _leaves(fake, labels)
        self._check(given)
        n, device = len(fake), fake.device
        new = min(n, self.size - self._filled)  # samples that go into empty slots
        if new and device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                f"{_OP}: the pool must be full before a CUDA graph captures it, got {self._filled} samples for "
                f"{self.size} slots"
            )
        if self.stream.device != device:
            self.stream.to(device)
        slots, swap = self._draw(n - new, device) if n > new else (None, None)
        self._stored = self._slots_for(given, device)
        outputs = []
        for place, x in given.items():
            stored = self._stored[place]
            if new:
                stored[self._filled : self._filled + new].copy_(x[:new])
            if slots is None or swap is None:
                outputs.append(x.detach())
                continue
            out = torch.empty_like(x)  # in the memory format of x
            out[:new] = x[:new]
            mine, theirs = x[new:], stored.index_select(0, slots)
            mask = swap.view(-1, *[1] * (x.dim() - 1))
            torch.where(mask, theirs, mine, out=out[new:])
            stored.index_copy_(0, slots, torch.where(mask, mine, theirs))
            outputs.append(out)
        self._filled += new
        return rebuild(outputs)

    def state_dict(self) -> dict[str, Any]:
        """A copy of the stored samples, and the position in the stream. Synchronizes with the device."""
        stored = {place: x[: self._filled].clone() for place, x in self._stored.items()}
        return {"size": self.size, "stream": self.stream.state_dict(), "stored": stored}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continues from where ``state_dict`` was saved, reusing the memory of stored samples of the same shape and
        dtype.

        Raises:
            TypeError, KeyError, ValueError: this is not a result of :meth:`state_dict`, or it is from a pool of another
                size. The pool is then unchanged.
        """
        filled = _check_state(state_dict, self.size)
        self.stream.load_state_dict(state_dict["stream"])
        self._stored = self._slots_for(state_dict["stored"], None)
        for place, x in state_dict["stored"].items():
            self._stored[place][:filled].copy_(x)
        self._filled = filled

    def _draw(self, n: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """n different slots, and whether to exchange each, (n,)."""
        if is_distributed():
            self.stream.rank = torch.distributed.get_rank()
        # The same number of draws in every call, so that those of several processes do not overlap.
        draws = torch.zeros(2, self.size, device=device)
        instance_noise(draws, 1.0, stream=self.stream, out=draws)
        return draws[0].argsort(stable=True)[:n], draws[1, :n] < self._threshold

    def _slots_for(
        self, given: Mapping[str, Tensor], device: torch.device | None
    ) -> dict[str, Tensor]:
        """The stored tensors, or zeros for those without a stored tensor of the same shape and dtype. Captured graphs
        refer to this memory, so it is replaced only if the device changes."""
        slots = {}
        for place, x in given.items():
            stored = self._stored.get(place)
            if stored is None or (stored.shape[1:], stored.dtype) != (x.shape[1:], x.dtype):
                stored = x.new_zeros(self.size, *x.shape[1:])
            slots[place] = stored if device is None else stored.to(device)
        return slots

    def _check(self, given: dict[str, Tensor]) -> None:
        n = len(next(iter(given.values())))
        if not 0 < n <= self.size:
            raise ValueError(
                f"{_OP}: fake must be a batch of 1 to {self.size} samples, the pool's size, got {n}"
            )
        if self._filled and set(given) != set(self._stored):
            raise ValueError(
                f"{_OP}: labels must have the same structure in every call, {_tree(self._stored)}, got {_tree(given)}"
            )
        for place, x in given.items():
            if not self._filled:
                continue
            stored = self._stored[place]
            if x.dtype != stored.dtype:
                raise TypeError(
                    f"{_OP}: {_name(place)} must have the stored dtype, {stored.dtype}, got {x.dtype}"
                )
            if x.shape[1:] != stored.shape[1:]:
                raise ValueError(
                    f"{_OP}: {_name(place)} must have the stored shape, (N, "
                    f"{', '.join(map(str, stored.shape[1:]))}), got {tuple(x.shape)}"
                )


_FAKE = "[0]"


def _leaves(fake: Any, labels: Any) -> tuple[dict[str, Tensor], Any]:
    """The tensors by their paths, the samples first, and a function that rebuilds the tree from other tensors."""
    if not isinstance(fake, Tensor) or fake.dim() == 0:
        raise TypeError(f"{_OP}: fake must be a tensor (N, ...), got {describe(fake)}")
    check_dense(_OP, "fake", fake)
    if labels is None:
        return {_FAKE: fake}, lambda outputs: outputs[0]
    paths, spec = tree_flatten_with_path((fake, labels))
    given = {keystr(path): x for path, x in paths}
    if len(given) == 1:
        raise ValueError(f"{_OP}: labels must hold a tensor, or be None, got {describe(labels)}")
    for place, x in given.items():
        if not isinstance(x, Tensor):
            raise TypeError(f"{_OP}: {_name(place)} must be a tensor, got {describe(x)}")
        check_dense(_OP, _name(place), x)
        if x.dim() == 0 or len(x) != len(fake):
            raise ValueError(
                f"{_OP}: {_name(place)} must have a first dimension of {len(fake)}, like the samples, got "
                f"{describe(x)}"
            )
        if x.device != fake.device:
            raise ValueError(
                f"{_OP}: {_name(place)} must be on the samples' device, {fake.device}, got {x.device}"
            )
    return given, lambda outputs: tree_unflatten(outputs, spec)


def _name(place: str) -> str:
    """The name of an argument, or of a part of one."""
    return "fake" if place == _FAKE else "labels" + place.removeprefix("[1]")


def _tree(places: Mapping[str, Any]) -> str:
    return ", ".join(_name(place) for place in places if place != _FAKE) or "None"


def _check_state(state: Any, size: int) -> int:
    """Checks a state; returns the number of samples it holds."""
    op = f"{_OP}.load_state_dict"
    if not isinstance(state, Mapping):
        raise TypeError(f"{op}: state_dict must be a dict, got {describe(state)}")
    if set(state) != {"size", "stream", "stored"}:
        raise KeyError(
            f"{op}: state_dict must have the keys size, stream and stored, got {sorted(map(str, state))}"
        )
    if state["size"] != size:
        raise ValueError(
            f"{op}: state_dict must be from a pool of size {size}, got one of size {state['size']!r}"
        )
    stored = state["stored"]
    if not isinstance(stored, Mapping) or not all(
        isinstance(x, Tensor) and x.dim() > 0 for x in stored.values()
    ):
        raise TypeError(f"{op}: stored must be a dict of tensors, got {describe(stored)}")
    counts = {len(x) for x in stored.values()} or {0}
    if len(counts) > 1 or max(counts) > size or (stored and _FAKE not in stored):
        raise ValueError(
            f"{op}: stored must hold at most {size} samples and as many labels, got {sorted(counts)}"
        )
    return counts.pop()
