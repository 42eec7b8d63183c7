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
    ``AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)``, except that buffers of
    integers or booleans are copied. That class reads its count of updates and moves it between devices in every
    update, which waits for the GPU and cannot be captured in a CUDA graph; this one does not.

    Args:
        network: copied, also one under nn.utils.weight_norm or spectral_norm. It may be sharded later, by
            ``fully_shard``, if the copy, `module`, is sharded alike.
        decay: of the average per update, between 0 and 1. The first update copies.

    It follows the network to another device.

    Raises:
        ValueError: decay is out of range.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not is_number(decay) or not 0.0 < decay < 1.0:
            raise ValueError(f"pygan.EMA: decay must be a number between 0 and 1, got {decay!r}")
        super().__init__(_without_graphs(network), use_buffers=True)
        self.decay = float(decay)
        # On the device, so that replays of a captured graph count too.
        self.n_averaged = self.n_averaged.to(_device(network))
        # On the host, because only the first update asks for the count.
        self._empty = True
        module: Any = self  # the hook has no types in some versions of torch
        module.register_load_state_dict_post_hook(_loaded)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Average in the network's values as they are now. Does not synchronize.

        Raises:
            RuntimeError: a CUDA graph is being captured, and nothing was averaged before: each replay would copy.
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
    """The network itself, or a copy of one that keeps tensors with a graph, which torch does not copy: the weights that
    nn.utils.weight_norm and spectral_norm compute, or activations."""
    found: dict[int, Tensor] = {}
    for module in network.modules():
        for value in tree_leaves(vars(module)):
            if isinstance(value, Tensor) and not value.is_leaf:
                found[id(value)] = value
    if not found:
        return network
    return copy.deepcopy(network, {key: value.detach().clone() for key, value in found.items()})


def _device(network: nn.Module) -> torch.device:
    """The CPU, if there are neither parameters nor buffers."""
    tensors = itertools.chain(network.parameters(), network.buffers())
    return next((x.device for x in tensors), torch.device("cpu"))


def _tensors(network: nn.Module) -> list[Tensor]:
    """Parameters and buffers; of sharded ones this process's part, because the list functions do not mix both kinds."""
    return [_local(x.detach()) for x in itertools.chain(network.parameters(), network.buffers())]


def _local(x: Any) -> Tensor:
    local: Tensor = x.to_local() if hasattr(x, "to_local") else x
    return local


def _loaded(average: nn.Module, incompatible_keys: Any) -> None:
    """The count on the host again. A function, because torch.save of a whole module pickles its hooks."""
    assert isinstance(average, EMA)
    average._empty = not average.n_averaged.item()
