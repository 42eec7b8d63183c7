"""EMA: the exponential moving average of a generator, updated without host synchronization."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils._pytree import tree_leaves

from pygan._validation import is_number

__all__ = ["EMA"]


class EMA(AveragedModel):
    """The exponential moving average of a network's parameters and floating-point buffers.

    The values and the state dict are those of torch's
    ``AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)``, except that integer and
    boolean buffers are copied. In every update, AveragedModel reads its update count and moves it between devices,
    which synchronizes with the GPU and cannot be captured in a CUDA graph; this class does not.

    Args:
        network: the network to copy; it may use nn.utils.weight_norm or spectral_norm. It may be sharded later with
            ``fully_shard`` if the copy, `module`, is sharded the same way.
        decay: decay of the average per update, between 0 and 1. The first update copies the values.

    The average moves to the network's device.

    Raises:
        ValueError: decay is out of range.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not is_number(decay) or not 0.0 < decay < 1.0:
            raise ValueError(f"pygan.EMA: decay must be a number between 0 and 1, got {decay!r}")
        super().__init__(_without_graphs(network), use_buffers=True)
        self.decay = float(decay)
        # On the device, so that replays of a captured graph increment it.
        self.n_averaged = self.n_averaged.to(_device(network))
        # On the host, because only the first update needs to know whether the count is 0.
        self._empty = True
        module: Any = self  # the hook is untyped in some versions of torch
        module.register_load_state_dict_post_hook(_loaded)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Update the average with the network's current values. Does not synchronize.

        Raises:
            RuntimeError: a CUDA graph captures the first update: every replay would copy instead of averaging.
        """
        device = _device(model)
        if self._empty and device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "pygan.EMA: update_parameters must have run before a CUDA graph captures it (warm up first), got no "
                "update yet"
            )
        if _device(self.module) != device:
            self.to(device)
        floats: tuple[list[Tensor], list[Tensor]] = ([], [])
        others: tuple[list[Tensor], list[Tensor]] = ([], [])
        for average, value in zip(_tensors(self.module), _tensors(model), strict=True):
            both = floats if average.is_floating_point() or average.is_complex() else others
            both[0].append(average)
            both[1].append(value)
        if floats[0] and self._empty:
            torch._foreach_copy_(*floats)
        elif floats[0]:
            torch._foreach_lerp_(*floats, 1 - self.decay)
        if others[0]:
            torch._foreach_copy_(*others)
        self.n_averaged += 1
        self._empty = False


def _without_graphs(network: nn.Module) -> nn.Module:
    """The network itself, or a copy if it stores tensors with a graph, which deepcopy refuses: the weights computed by
    nn.utils.weight_norm and spectral_norm, or activations."""
    found: dict[int, Tensor] = {}
    for module in network.modules():
        for value in tree_leaves(vars(module)):
            if isinstance(value, Tensor) and not value.is_leaf:
                found[id(value)] = value
    if not found:
        return network
    return copy.deepcopy(network, {key: value.detach().clone() for key, value in found.items()})


def _device(network: nn.Module) -> torch.device:
    """The network's device; the CPU if it has neither parameters nor buffers."""
    tensors = itertools.chain(network.parameters(), network.buffers())
    return next((x.device for x in tensors), torch.device("cpu"))


def _tensors(network: nn.Module) -> list[Tensor]:
    """Parameters and buffers, sharded ones as this process's shard: the foreach functions cannot mix both kinds."""
    return [_local(x.detach()) for x in itertools.chain(network.parameters(), network.buffers())]


def _local(x: Any) -> Tensor:
    local: Tensor = x.to_local() if hasattr(x, "to_local") else x
    return local


def _loaded(average: nn.Module, incompatible_keys: Any) -> None:
    """Updates the flag on the host. A module-level function, because torch.save of a module pickles its hooks."""
    assert isinstance(average, EMA)
    average._empty = not average.n_averaged.item()
