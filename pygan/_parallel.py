"""Support for several processes: networks under DistributedDataParallel, sharded by torch's `fully_shard`
(FSDP2), or compiled, and the processes' shares of a batch."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

NOTHING = nullcontext()


def is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def unwrapped(module: nn.Module) -> nn.Module:
    """The network itself, without the wrappers of torch.compile, DistributedDataParallel and nn.DataParallel."""
    module = _without_compile(module)
    if isinstance(module, (DistributedDataParallel, nn.DataParallel)):
        module = module.module
    return _without_compile(module)


def data_parallel(module: nn.Module) -> DistributedDataParallel | None:
    """The DistributedDataParallel around the network, if there is one."""
    module = _without_compile(module)
    return module if isinstance(module, DistributedDataParallel) else None


# Strides that differ only in a dimension of size 1, which no address depends on.
_SAME_LAYOUT = (
    r"Grad strides do not match bucket view strides[\s\S]*"
    r"grad\.sizes\(\) = \[(\d+, )?1((?:, .*)?)\], strides\(\) = \[((?(1)\d+, ))\d+((?:, .*)?)\]\n"
    r"bucket_view\.sizes\(\) = \[(?(1)\1)1\2\], strides\(\) = \[\3\d+\4\]"
)


def ignore_same_layout() -> None:
    """Ignore the warning of DistributedDataParallel about gradients of another layout than their parameters where the
    layouts are the same. The second derivatives that gradient penalties take give the weight of a single output, or of
    a convolution of a single channel, such a gradient; copying it costs nothing more than usual."""
    warnings.filterwarnings("ignore", _SAME_LAYOUT, UserWarning, r"pygan\._ops")


def _without_compile(module: nn.Module) -> nn.Module:
    inner = getattr(module, "_orig_mod", module)
    assert isinstance(inner, nn.Module)
    return inner


def without_sync(wrapper: DistributedDataParallel | None) -> AbstractContextManager[None]:
    """Context of a forward pass whose gradients must not be reduced."""
    return NOTHING if wrapper is None else wrapper.no_sync()


def sync_buffers(wrapper: DistributedDataParallel | None) -> None:
    """Broadcast the first process's buffers now, if the wrapper would do so in its next forward pass."""
    if wrapper is not None and wrapper.will_sync_module_buffers():  # type: ignore[no-untyped-call]
        wrapper._sync_buffers()  # type: ignore[no-untyped-call]  # torch has no annotations


def first_of_share(op: str, n: int, total: int | None) -> tuple[int, float, int]:
    """For a batch shared by the processes: the index of this process's first sample; the factor for the mean over its n
    samples that makes the mean over the processes that of the whole batch; and the size of the whole batch.

    Shares are contiguous and ordered by rank, as in torch.tensor_split: the first total % world of them
    have one sample more than the others. total is None if all have n.
    """
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    if total is None:
        return rank * n, 1.0, world * n
    least, more = divmod(total, world)
    share = least + (rank < more)
    if n != share:
        raise ValueError(
            f"{op}: total must match the processes' shares: {share} samples in process {rank} of {world} for "
            f"total={total}, got {n}"
        )
    return rank * least + min(rank, more), n * world / total, total


def summed(values: list[Tensor], factors: list[float]) -> list[Tensor]:
    """0-d tensors, each times its factor, summed over the processes in one reduction."""
    packed = torch.stack(torch._foreach_mul(values, factors))
    torch.distributed.all_reduce(packed)
    return [total.to(x.dtype) for total, x in zip(packed.unbind(), values, strict=True)]


# --- sharded parameters -----------------------------------------------------------------------------


def units(name: str, network: nn.Module) -> list[Any]:
    """The modules of a network to which fully_shard was applied; usually none.

    Raises:
        TypeError: the network is wrapped by FSDP1.
        ValueError: a part of the network is sharded, but not the network itself.
    """
    # Importing it takes a second; it has been imported if there is such a module.
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
            f"GANTrainer: {name} must be sharded as a whole, by fully_shard({name}) after its layers, got one with "
            "only its layers sharded"
        )
    return found


def reshard(units: list[Any]) -> None:
    """Free the parameters gathered by forward passes without a backward pass, so that only the shards remain."""
    for unit in units:
        unit.reshard()


def gathered_throughout(units: list[Any]) -> AbstractContextManager[None]:
    """Context in which a backward pass keeps the parameters gathered for another one through the same graph."""
    return _keep_gathered(units) if units else NOTHING


@contextmanager
def _keep_gathered(units: list[Any]) -> Iterator[None]:
    for unit in units:
        unit.set_reshard_after_backward(False, recurse=False)
    try:
        yield
    finally:
        for unit in units:
            unit.set_reshard_after_backward(True, recurse=False)
        reshard(units)


def gather_state(state: Any) -> Any:
    """A state dict with full tensors on the CPU instead of shards. Every process must call this."""
    if isinstance(state, dict):
        return {key: gather_state(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(gather_state(value) for value in state)
    return state.full_tensor().cpu() if hasattr(state, "full_tensor") else state


def shard_state(state: dict[str, Any], owner: Any) -> dict[str, Any]:
    """A full state dict, sharded like its owner, a module or an optimizer."""
    if isinstance(owner, nn.Module):
        result = owner.state_dict()  # also contains the versions of the modules
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

    # Every process has the full tensor, so nothing is sent.
    return distribute_tensor(
        value.to(shard.device), shard.device_mesh, shard.placements, src_data_rank=None
    )
