"""NoiseStream: a position in the noise, to save, resume and split across processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from pygan import _ops
from pygan._parallel import is_distributed
from pygan._validation import describe, is_int

__all__ = ["NoiseStream"]

_WORD = 1 << 64

_is_tracing = torch._C._is_tracing  # bound once: a lookup on every draw costs a microsecond


def _signed(value: int) -> int:
    """The int64 that has the bits of an unsigned 64-bit value."""
    return value - _WORD if value >= _WORD // 2 else value


def _worker_id() -> int | None:
    """The DataLoader worker's id if this is one of its processes."""
    info = get_worker_info()
    return None if info is None else int(info.id)


class NoiseStream:
    """A position in the noise: seed, step and offset. Each draw advances the step by one.

    The step is stored on ``device`` and advanced by the kernel that draws, so a captured CUDA
    graph draws fresh noise at every replay, without a host synchronization.

    Every call draws new noise, even when a forward pass is recomputed, and this cannot be detected. Do not use a stream
    inside ``torch.utils.checkpoint``: it restores only PyTorch's generators, so the gradients would belong to different
    noise. Under ``torch.compile``, a checkpointed function cannot draw noise at all: draw it beforehand.

    Threads may share a stream: each call takes its own steps, in an order that depends on timing. Another process
    gets a copy of the stream and would draw the same noise again, so use :meth:`for_rank` for distributed ranks. In a
    ``DataLoader`` worker, pass no stream (the DataLoader seeds PyTorch's generator differently in each worker) or
    create one there: ``NoiseStream(torch.utils.data.get_worker_info().seed)``; a stream made outside the worker is
    refused. Give any other process that you start its own seed.

    Args:
        seed: 0 to 2**64 - 1. Streams with different seeds are independent.
        step: step of the first draw, 0 to 2**64 - 1.
        offset: index in the stream of a tensor's first element, 0 to 2**63 - 1. Processes that share a
            batch pass the index of their first element, and together draw what one process would.
        device: device of the tensors that noise is drawn for.

    Attributes:
        rank: 0, or the rank given to :meth:`for_rank`. It belongs to the process and is not part of the state.
        first_sample: None, or the index in the whole batch of this process's first sample, for processes with uneven
            shares. It takes precedence over `rank` and is not part of the state either.

    Raises:
        TypeError, ValueError: a number is not an int, or is out of range.
    """

    _worker: int | None = None  # the DataLoader worker that set this position, if any

    def __init__(
        self,
        seed: int,
        *,
        step: int = 0,
        offset: int = 0,
        device: torch.device | str | None = None,
    ):
        self.rank = 0
        self.first_sample: int | None = None
        self._keep(torch.zeros(2, dtype=torch.int64, device=device))
        self._set(seed, step, offset)

    @classmethod
    def for_rank(
        cls,
        seed: int,
        rank: int | None = None,
        world_size: int | None = None,
        *,
        step: int = 0,
        offset: int = 0,
        device: torch.device | str | None = None,
    ) -> NoiseStream:
        """The stream of one rank among processes that split each batch evenly.

        On rank r, a tensor of n elements takes elements r n to (r + 1) n of the stream, so together the processes draw
        what one process draws for the whole batch, rank 0's part first. `state_dict()` is the same on all ranks.

        Args:
            seed, step, offset, device: as for the class, the same on every process.
            rank, world_size: by default those of ``torch.distributed``'s default group.

        Raises:
            TypeError, ValueError: a number is not an int, or is out of range.
            RuntimeError: no rank was given and ``torch.distributed`` is not initialized.
        """
        if (rank is None) != (world_size is None):
            raise TypeError(
                "pygan.NoiseStream.for_rank: rank and world_size must be given together, got "
                f"rank={rank} and world_size={world_size}"
            )
        if rank is None or world_size is None:
            if not is_distributed():
                raise RuntimeError(
                    "pygan.NoiseStream.for_rank: rank and world_size must be given if torch.distributed "
                    "is not initialized, got neither"
                )
            rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        for name, value in (("rank", rank), ("world_size", world_size)):
            if not is_int(value):
                kind = type(value).__name__
                raise TypeError(f"pygan.NoiseStream.for_rank: {name} must be an int, got {kind}")
        if not 0 <= rank < world_size:
            raise ValueError(
                f"pygan.NoiseStream.for_rank: rank must be from 0 to world_size - 1, {world_size - 1}, got {rank}"
            )
        stream = cls(seed, step=step, offset=offset, device=device)
        stream.rank = rank
        return stream

    def offset_of(self, x: Tensor) -> int:
        """The index in the stream of x's first element."""
        if self.first_sample is not None:
            before = self.first_sample * (x.numel() // max(len(x), 1))
        else:
            before = self.rank * x.numel()
        offset = self.offset + before
        if offset >= 1 << 63:
            raise ValueError(
                f"pygan.NoiseStream: offset must leave room for rank {self.rank}, got {self.offset}"
            )
        return offset

    def check_place(self, op: str) -> None:
        """Refuses a draw that would not advance the stream for all of its users.

        Raises:
            RuntimeError: called in a DataLoader worker with a stream made outside it.
            NotImplementedError: under torch.jit.trace, which would record this step as a constant.
        """
        if _ops.is_compiling():
            return
        if _is_tracing():
            raise NotImplementedError(
                f"{op}: torch.jit.trace is not supported with a stream; use torch.compile or torch.export"
            )
        worker = _worker_id()
        if worker is not None and worker != self._worker:
            raise RuntimeError(
                f"{op}: stream must be created in the DataLoader worker that draws from it, got one from outside, "
                "which would give every worker the same noise; pass no stream (DataLoader seeds PyTorch's generator "
                "differently in each worker), or create NoiseStream(torch.utils.data.get_worker_info().seed) in the "
                "worker"
            )

    def _set(self, seed: int, step: int, offset: int) -> None:
        for name, value, bits in (("seed", seed, 64), ("step", step, 64), ("offset", offset, 63)):
            if not is_int(value):
                kind = type(value).__name__
                raise TypeError(f"pygan.NoiseStream: {name} must be an int, got {kind}")
            if not 0 <= value < 1 << bits:
                raise ValueError(
                    f"pygan.NoiseStream: {name} must be from 0 to 2**{bits} - 1, got {value}"
                )
        self.offset = offset
        self._worker = _worker_id()
        # In place, because captured graphs refer to this memory.
        self.state.copy_(torch.tensor([_signed(seed), _signed(step)]))

    @property
    def device(self) -> torch.device:
        return self.state.device

    @property
    def seed(self) -> int:
        """The seed. Synchronizes with the device."""
        return int(self.state[0]) % _WORD

    @property
    def step(self) -> int:
        """The step of the next draw. Synchronizes with the device."""
        return int(self.state[1]) % _WORD

    def to(self, device: torch.device | str) -> NoiseStream:
        """Moves the state to another device, in place; returns self."""
        self._keep(self.state.to(device))
        return self

    def _keep(self, state: Tensor) -> None:
        # Equivalent to torch._dynamo.mark_static_address, without importing Dynamo, which takes seconds. Otherwise
        # torch.compile(mode="reduce-overhead") does not capture a graph that writes to this input.
        state._dynamo_static_input_type = "unguarded"  # type: ignore[attr-defined]
        self.state = state

    def __getstate__(self) -> dict[str, Any]:
        # Plain numbers, because torch.multiprocessing shares the memory of tensors: a draw in one process would
        # advance the others. The empty tensor records the device, which torch.load(map_location=...) can then change.
        words = None if self.device.type == "meta" else self.state.tolist()
        return {**vars(self), "state": (words, self.state.new_empty(0))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        words, like = state["state"]
        vars(self).update(state)
        self._keep(like.new_zeros(2))
        if words is not None:
            self.state.copy_(torch.tensor(words))

    def state_dict(self) -> dict[str, int]:
        """Seed, step and offset as plain ints, from which the stream continues bit for bit."""
        seed, step = self.state.tolist()
        return {"seed": seed % _WORD, "step": step % _WORD, "offset": self.offset}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Continues from where ``state_dict`` was saved, on this stream's own device.

        Raises:
            TypeError, KeyError, ValueError: this is not a result of :meth:`state_dict`. The stream is left unchanged.
        """
        must = "pygan.NoiseStream: state_dict must have the keys seed, step and offset, got"
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"{must} {describe(state_dict)}")
        if set(state_dict) != {"seed", "step", "offset"}:
            raise KeyError(f"{must} {sorted(map(str, state_dict))}")
        self._set(state_dict["seed"], state_dict["step"], state_dict["offset"])

    def __repr__(self) -> str:
        known = {"offset": self.offset} if self.device.type == "meta" else self.state_dict()
        if self.rank:
            known["rank"] = self.rank
        state = ", ".join(f"{key}={value}" for key, value in known.items())
        return f"NoiseStream({state}, device={str(self.device)!r})"
