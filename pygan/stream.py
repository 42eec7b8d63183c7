"""NoiseStream: a place in the noise, which a run saves, continues and shares out among processes."""

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

_is_tracing = torch._C._is_tracing  # bound once: looked up at each draw it takes a microsecond


def _signed(value: int) -> int:
    """The int64 with the bits of an unsigned 64-bit value."""
    return value - _WORD if value >= _WORD // 2 else value


def _worker_id() -> int | None:
    """That of the DataLoader's worker process that this is, if it is one."""
    info = get_worker_info()
    return None if info is None else int(info.id)


class NoiseStream:
    """A position in the noise: seed, step and offset. Each draw moves the step on by one.

    The step lives in memory of ``device`` and is advanced by the kernel that draws, so a captured CUDA
    graph draws fresh noise at every replay, and nothing waits for the host.

    Each call draws anew, a recomputation too, and nothing can tell: inside ``torch.utils.checkpoint`` use no stream,
    since the checkpoint restores PyTorch's generators only, and the gradients would be of other noise. Inside
    ``torch.compile`` a checkpointed function cannot draw noise at all: draw it before.

    Threads may draw from one stream: each call takes steps of its own, which ones depends on their timing. Another
    process gets a copy of the stream, and would draw the same noise again. Ranks take :meth:`for_rank`. Workers of a
    ``DataLoader`` pass no stream, because it seeds PyTorch's generator differently in each, or make one in the worker:
    ``NoiseStream(torch.utils.data.get_worker_info().seed)``; there, one from outside is refused. Other processes that
    you start take seeds of their own.

    Args:
        seed: 0 to 2**64 - 1. Streams of different seeds are independent.
        step: of the first draw, 0 to 2**64 - 1.
        offset: index in the stream of a tensor's first element, 0 to 2**63 - 1. Processes that share a
            batch pass the index of their first element, and together draw what one process would.
        device: of the tensors that noise is drawn for.

    Attributes:
        rank: 0, or what :meth:`for_rank` was given. It belongs to the process, not to the state.
        first_sample: None, or the index in the whole batch of this process's first sample, where the processes'
            shares are uneven. It goes before `rank`, and is no part of the state either.

    Raises:
        TypeError, ValueError: a number that is no int, or out of range.
    """

    _worker: int | None = None  # of the DataLoader, where this position was chosen in one

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
        """The stream of one of the processes that share each batch evenly.

        Rank r's tensors of n elements take elements r n to (r + 1) n of the stream: together the processes draw what
        one does for the whole batch, rank 0's part first. `state_dict()` is the same on all of them.

        Args:
            seed, step, offset, device: as for the class, the same on every process.
            rank, world_size: those of ``torch.distributed``'s default group if not given.

        Raises:
            TypeError, ValueError: a number that is no int, or out of range.
            RuntimeError: no rank was given and ``torch.distributed`` is not initialized.
        """
        if (rank is None) != (world_size is None):
            raise TypeError(
                "pygan.NoiseStream.for_rank: rank and world_size must be given together"
            )
        if rank is None or world_size is None:
            if not is_distributed():
                raise RuntimeError(
                    "pygan.NoiseStream.for_rank: rank and world_size must be given where torch.distributed "
                    "is not initialized"
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
        """Refuses a draw where the stream cannot move on for everybody who draws from it.

        Raises:
            RuntimeError: in a worker of a DataLoader, and the stream was made outside of it.
            NotImplementedError: under torch.jit.trace, which would record this step for ever.
        """
        if _ops.is_compiling():
            return
        if _is_tracing():
            raise NotImplementedError(
                f"{op}: torch.jit.trace is not implemented where a stream is given; use torch.compile or torch.export"
            )
        worker = _worker_id()
        if worker is not None and worker != self._worker:
            raise RuntimeError(
                f"{op}: stream must be made in the DataLoader worker that draws from it, got one from outside, of "
                "which every worker draws the same noise; pass none (DataLoader seeds PyTorch's generator differently "
                "in each), or make NoiseStream(torch.utils.data.get_worker_info().seed) in the worker"
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
        # In place: what a captured graph holds is this memory.
        self.state.copy_(torch.tensor([_signed(seed), _signed(step)]))

    @property
    def device(self) -> torch.device:
        return self.state.device

    @property
    def seed(self) -> int:
        """The seed. Waits for the device."""
        return int(self.state[0]) % _WORD

    @property
    def step(self) -> int:
        """The step of the next draw. Waits for the device."""
        return int(self.state[1]) % _WORD

    def to(self, device: torch.device | str) -> NoiseStream:
        """Moves the state to another device, in place; returns self."""
        self._keep(self.state.to(device))
        return self

    def _keep(self, state: Tensor) -> None:
        # What torch._dynamo.mark_static_address does, without importing Dynamo, which takes seconds. A graph that
        # writes to any other input is not captured by torch.compile(mode="reduce-overhead").
        state._dynamo_static_input_type = "unguarded"  # type: ignore[attr-defined]
        self.state = state

    def __getstate__(self) -> dict[str, Any]:
        # Numbers, because torch.multiprocessing shares the memory of tensors: a draw of one process would move the
        # others. And an empty tensor, because torch.load(map_location=...) moves it.
        words = None if self.device.type == "meta" else self.state.tolist()
        return {**vars(self), "state": (words, self.state.new_empty(0))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        words, like = state["state"]
        vars(self).update(state)
        self._keep(like.new_zeros(2))
        if words is not None:
            self.state.copy_(torch.tensor(words))

    def state_dict(self) -> dict[str, int]:
        """Seed, step and offset as plain ints: the stream continues from them bit for bit."""
        seed, step = self.state.tolist()
        return {"seed": seed % _WORD, "step": step % _WORD, "offset": self.offset}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Continues where ``state_dict`` was taken, on this stream's own device.

        Raises:
            TypeError, KeyError, ValueError: not what :meth:`state_dict` returns. The stream stays where it was.
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
