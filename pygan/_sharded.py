"""Networks whose parameters are sharded over processes, by torch's `fully_shard` (FSDP2)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from pygan._parallel import NOTHING


def units(name: str, network: nn.Module) -> list[Any]:
    """The modules in a network that fully_shard was applied to; none in most.

    Raises:
        TypeError: FSDP1 is around it.
        ValueError: a part of it is sharded, and it is not.
    """
    # Importing it takes a second; whoever has such a module has imported it.
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is None:
        return []
    modules = list(network.modules())
    if any(isinstance(module, fsdp.FullyShardedDataParallel) for module in modules):
        raise TypeError(
            f"GANTrainer: {name} must be sharded by torch.distributed.fsdp.fully_shard, got one in a "
            "FullyShardedDataParallel"
        )
    found = [module for module in modules if isinstance(module, fsdp.FSDPModule)]
    if found and modules[0] not in found:
        raise ValueError(
            f"GANTrainer: {name} must be sharded as a whole, by fully_shard({name}) after its parts, got one "
            "with sharded parts"
        )
    return found


def reshard(units: list[Any]) -> None:
    """Free what forward passes without a backward have gathered: the parameters are the shards again."""
    for unit in units:
        unit.reshard()


def gathered_throughout(units: list[Any]) -> AbstractContextManager[None]:
    """Within it, a backward pass leaves the parameters gathered for another one through the same graph."""
    return _kept(units) if units else NOTHING


@contextmanager
def _kept(units: list[Any]) -> Iterator[None]:
    for unit in units:
        unit.set_reshard_after_backward(False, recurse=False)
    try:
        yield
    finally:
        for unit in units:
            unit.set_reshard_after_backward(True, recurse=False)
        reshard(units)


def whole(state: Any) -> Any:
    """A state dict with whole tensors, on the CPU, in place of shards. Every process has to take part."""
    if isinstance(state, dict):
        return {key: whole(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(whole(value) for value in state)
    return state.full_tensor().cpu() if hasattr(state, "full_tensor") else state


def shared_out(state: dict[str, Any], owner: Any) -> dict[str, Any]:
    """A whole state dict, sharded as its owner is: a module or an optimizer."""
    if isinstance(owner, nn.Module):
        result = owner.state_dict()  # which also says of what version its modules are
        own = dict(result)
        result.clear()
        result.update((key, _like(own.get(key), value)) for key, value in state.items())
        return result
    if isinstance(owner, Optimizer):
        parameters = [p for group in owner.param_groups for p in group["params"]]
        entries = {
            i: {key: _like(parameters[i], value) for key, value in entry.items()}
            for i, entry in state["state"].items()
        }
        return {**state, "state": entries}
    return state


def _like(shard: Any, value: Any) -> Any:
    if not hasattr(shard, "device_mesh"):
        return value
    if not isinstance(value, Tensor) or value.shape != shard.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    # Every process has the whole tensor: nothing is sent.
    return distribute_tensor(
        value.to(shard.device), shard.device_mesh, shard.placements, src_data_rank=None
    )
