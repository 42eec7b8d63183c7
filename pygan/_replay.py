"""Another forward pass through a network as if it were an earlier one: the same random numbers, the same buffers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pygan.modules import InstanceNoise

__all__ = ["Replay"]


class _Kept:
    """A tensor under its name, and its value. Whether it was changed cannot be told: batch normalization does not count
    its changes of the running statistics as a version. Nor does `restore`, because autograd may hold the tensor."""

    def __init__(self, owner: dict[str, Any], name: str) -> None:
        self._owner, self._name = owner, name
        self._tensor: Tensor = owner[name]
        self._value = self._tensor.clone()

    def now(self) -> _Kept:
        """What is there at present."""
        return _Kept(self._owner, self._name)

    def restore(self) -> None:
        self._owner[self._name] = self._tensor
        self._tensor.data.copy_(self._value)


class Replay:
    """What a forward pass that starts now would begin with, so that further ones can begin with the same.

    These are the states of torch's generators, that of the CPU and that of `device`, of the streams of the network's
    InstanceNoise modules, and the network's buffers (spectral normalization's vectors, running statistics). Nothing
    waits for the device.

    Args:
        network: without wrappers.
        device: of the network.
        draws: whether the network is known to draw from the device's generator.

    Attributes:
        drew: whether a pass within `again` drew from the device's generator; known on CUDA only.

    Raises:
        RuntimeError: a CUDA graph is being captured, in which a generator cannot be set back, and the network draws.
    """

    def __init__(self, network: nn.Module, device: torch.device, draws: bool) -> None:
        self._device, self.drew = device, draws
        # During a capture a generator can be neither read nor set.
        self._on_gpu = device.type == "cuda" and not torch.cuda.is_current_stream_capturing()
        if draws and device.type == "cuda" and not self._on_gpu:
            raise RuntimeError(
                "GANTrainer: penalties must have no sigma while a CUDA graph is captured if the discriminator draws "
                "random numbers (dropout), because they cannot be drawn again there, got one with sigma"
            )
        self._cpu = torch.get_rng_state()
        self._gpu = torch.cuda.get_rng_state(device) if self._on_gpu else None
        modules = list(network.modules())
        streams = [m.stream.to(device) for m in modules if isinstance(m, InstanceNoise)]
        self._kept = [_Kept(vars(stream), "state") for stream in streams]
        for owner in (module._buffers for module in modules):
            self._kept += [_Kept(owner, name) for name, x in owner.items() if x is not None]

    @contextmanager
    def again(self) -> Iterator[None]:
        """Within it a forward pass begins where this was made; afterwards everything is as it was before."""
        cpu = torch.get_rng_state()
        torch.set_rng_state(self._cpu)
        gpu, offset = None, 0
        if self._gpu is not None:
            gpu = torch.cuda.get_rng_state(self._device)
            torch.cuda.set_rng_state(self._gpu, self._device)
            offset = self._offset()
        now = [kept.now() for kept in self._kept]
        for kept in self._kept:
            kept.restore()
        try:
            yield
        finally:
            for kept in now:
                kept.restore()
            torch.set_rng_state(cpu)
            if gpu is not None:
                self.drew = self.drew or self._offset() != offset
                torch.cuda.set_rng_state(gpu, self._device)

    def _offset(self) -> int:
        index = torch.cuda.current_device() if self._device.index is None else self._device.index
        return torch.cuda.default_generators[index].get_offset()
