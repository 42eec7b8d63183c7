"""Another forward pass through a network as if it were an earlier one: the same random numbers, the same buffers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pygan.stream import NoiseStream

__all__ = ["Replay", "check_capture"]


class _Kept:
    """A tensor attribute and its value. Changes cannot be detected: batch normalization does not increment the version
    of the running statistics. Nor does `restore` increment it, because autograd may have saved the tensor."""

    def __init__(self, owner: dict[str, Any], name: str) -> None:
        self._owner, self._name = owner, name
        self._tensor: Tensor = owner[name]
        self._value = self._tensor.clone()

    def now(self) -> _Kept:
        """The current tensor and value."""
        return _Kept(self._owner, self._name)

    def restore(self) -> None:
        self._owner[self._name] = self._tensor
        self._tensor.data.copy_(self._value)


class Replay:
    """The current random state and buffers, so that further forward passes can start from them.

    These are the states of torch's generators (the CPU's, that of `device`, and those that the network's modules have
    as attributes), of noise streams that are attributes of modules, such as InstanceNoise's, and the network's buffers
    (spectral normalization's vectors, running statistics). Does not synchronize with the device.

    Args:
        op: for messages.
        network: without wrappers.
        device: the network's device.
        draws: whether the network draws from the device's generator; None: unknown.

    Attributes:
        draws: the same, updated by a pass within `again`, which detects it on CUDA.

    Raises:
        RuntimeError: as :func:`check_capture`.
    """

    def __init__(
        self, op: str, network: nn.Module, device: torch.device, draws: bool | None = None
    ) -> None:
        check_capture(op, device, draws)
        self.draws = draws
        modules = list(network.modules())
        attributes = [value for module in modules for value in vars(module).values()]
        self._generators = [torch.default_generator]
        self._gpu: torch.Generator | None = None
        if device.type == "cuda" and not torch.cuda.is_current_stream_capturing():
            index = torch.cuda.current_device() if device.index is None else device.index
            self._gpu = torch.cuda.default_generators[index]
            self._generators.append(self._gpu)
        self._generators += [x for x in attributes if isinstance(x, torch.Generator)]
        self._states = [generator.get_state() for generator in self._generators]
        streams = [x.to(device) for x in attributes if isinstance(x, NoiseStream)]
        self._kept = [_Kept(vars(stream), "state") for stream in streams]
        for owner in (module._buffers for module in modules):
            self._kept += [_Kept(owner, name) for name, x in owner.items() if x is not None]

    @contextmanager
    def again(self) -> Iterator[None]:
        """Context manager in which a forward pass starts from this state; the state before is restored afterwards."""
        states = [generator.get_state() for generator in self._generators]
        kept_now = [kept.now() for kept in self._kept]
        self._set(self._states)
        offset = self._offset()
        for kept in self._kept:
            kept.restore()
        try:
            yield
        finally:
            if self._gpu is not None:
                self.draws = bool(self.draws) or self._offset() != offset
            for kept in kept_now:
                kept.restore()
            self._set(states)

    def _set(self, states: list[Tensor]) -> None:
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)

    def _offset(self) -> int:
        return 0 if self._gpu is None else self._gpu.get_offset()


def check_capture(op: str, device: torch.device, draws: bool | None) -> None:
    """Check that no CUDA graph is being captured, in which generators cannot be read or set, unless the network is
    known not to use them.

    Raises:
        RuntimeError: a graph is being captured.
    """
    if draws is False or device.type != "cuda" or not torch.cuda.is_current_stream_capturing():
        return
    got = (
        "one that does" if draws else "one that may, because no step has run it before the capture"
    )
    raise RuntimeError(
        f"{op}: the discriminator of a finite difference must not draw random numbers (dropout) while a CUDA graph is "
        f"captured, because a graph cannot draw the same ones twice, got {got}"
    )
