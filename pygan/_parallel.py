"""What networks that are wrapped for several processes, or compiled, need of a trainer."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

NOTHING = nullcontext()


def unwrapped(module: nn.Module) -> nn.Module:
    """The network itself, out of the wrappers of torch.compile, DistributedDataParallel and nn.DataParallel."""
    module = _without_compile(module)
    if isinstance(module, (DistributedDataParallel, nn.DataParallel)):
        module = module.module
    return _without_compile(module)


def data_parallel(module: nn.Module) -> DistributedDataParallel | None:
    """The DistributedDataParallel around the network, if there is one."""
    module = _without_compile(module)
    return module if isinstance(module, DistributedDataParallel) else None


def _without_compile(module: nn.Module) -> nn.Module:
    inner = getattr(module, "_orig_mod", module)
    assert isinstance(inner, nn.Module)
    return inner


def without_sync(
    wrapper: DistributedDataParallel | None, wanted: bool = True
) -> AbstractContextManager[None]:
    """The context of a forward pass whose gradients are not to be reduced, if `wanted`."""
    return NOTHING if wrapper is None or not wanted else wrapper.no_sync()


def sync_buffers(wrapper: DistributedDataParallel | None) -> None:
    """Give every process the first one's buffers now, where the wrapper would do so in its next forward pass."""
    if wrapper is not None and wrapper.will_sync_module_buffers():  # type: ignore[no-untyped-call]
        wrapper._sync_buffers()  # type: ignore[no-untyped-call]  # torch has no annotations


def first_of_share(op: str, n: int, total: int | None) -> tuple[int, float, int]:
    """Of a batch that the processes share: the index of this one's first sample; what to multiply the mean over its n
    samples by, so that the mean over the processes is that of the whole batch; and the size of the whole batch.

    Shares are contiguous in the order of the ranks, by torch.tensor_split's rule: the first total % world of them
    have one sample more than the others. total is None where all have n.
    """
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    if total is None:
        return rank * n, 1.0, world * n
    least, more = divmod(total, world)
    share = least + (rank < more)
    if n != share:
        raise ValueError(
            f"{op}: total must fit the shares, {share} samples for process {rank} of {world} with total={total}, "
            f"got {n}"
        )
    return rank * least + min(rank, more), n * world / total, total


def summed(values: list[Tensor], factors: list[float]) -> list[Tensor]:
    """0-d tensors, each times its factor, summed over the processes in one reduction."""
    packed = torch.stack(torch._foreach_mul(values, factors))
    torch.distributed.all_reduce(packed)
    return [total.to(x.dtype) for total, x in zip(packed.unbind(), values, strict=True)]
