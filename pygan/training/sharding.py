"""Networks sharded across processes with torch's fully_shard (FSDP2), instead of DistributedDataParallel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from pygan.average import EMA

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

__all__ = ["SHARDS_ON_CPU", "check_device", "shard"]

SHARDS_ON_CPU = hasattr(torch.cpu.Stream, "record_event")  # fully_shard of torch 2.6 needs GPUs


def check_device(device: torch.device) -> None:
    """Check that networks can be sharded on this device."""
    if device.type == "cpu" and not SHARDS_ON_CPU:
        raise NotImplementedError(
            f"pygan.fit: sharded must be False on CPUs before torch 2.7, got True with torch {torch.__version__}"
        )


def shard(
    generator: nn.Module,
    discriminator: nn.Module,
    g_optimizer: Optimizer,
    d_optimizer: Optimizer,
    ema: float | AveragedModel | None,
) -> AveragedModel | None:
    """Shard both networks in place, with the weights of the first process, and point the optimizers at the shards.

    Returns:
        The generator's average with the decay `ema`, sharded like the generator.
    """
    from torch.distributed.device_mesh import init_device_mesh

    device = next(generator.parameters()).device
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for network in (generator, discriminator):
        for tensor in (*network.parameters(), *network.buffers()):
            torch.distributed.broadcast(tensor.detach(), 0)
    average = ema if isinstance(ema, AveragedModel) or ema is None else EMA(generator, ema)
    if average is not None:  # copied before sharding
        _fully_shard(average.module, mesh)
    for network, optimizer in ((generator, g_optimizer), (discriminator, d_optimizer)):
        names = {parameter: name for name, parameter in network.named_parameters()}
        _fully_shard(network, mesh)
        shards = dict(network.named_parameters())
        for group in optimizer.param_groups:
            group["params"] = [shards[names[p]] for p in group["params"]]
    return average


def _fully_shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Shard each submodule as a unit, which is gathered while its forward or backward runs, and the remaining
    parameters with the network itself."""
    from torch.distributed.fsdp import fully_shard

    parts = list(_parts(network))
    users = Counter(p for part in parts for p in part.parameters())
    for part in parts:
        # A module with shared parameters stays with the network.
        if all(users[p] == 1 for p in part.parameters()):
            fully_shard(part, mesh=mesh)
    fully_shard(network, mesh=mesh)


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """The children that have parameters; for ModuleList and ModuleDict, which have no forward, their entries."""
    for child in module.children():
        if isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            yield from _parts(child)
        elif any(True for _ in child.parameters()):
            yield child
