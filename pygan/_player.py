"""Player: a network that GANTrainer trains, generator or discriminator, with its optimizer and its wrapping."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from pygan import _parallel as parallel

__all__ = ["Player"]


class Player:
    """One of the two networks of the game.

    Args:
        name: "generator" or "discriminator", for messages.
        network: may be wrapped by DistributedDataParallel or torch.compile, or sharded by `fully_shard`.
        optimizer: of the network's parameters.

    Attributes:
        network, optimizer: may be replaced; `look` finds what is in them then.
        optimizer_name: what GANTrainer calls the optimizer.
        parameters: the network's.
        bare: the network without its wrappers.
        batch_norms: the modules of it that normalize by the batch.
        units: the modules that `fully_shard` was applied to.
        is_parallel: whether several processes train the network together.
        draws: whether the network draws from the device's generator, as dropout does; None: not known.
    """

    def __init__(self, name: str, network: nn.Module, optimizer: Optimizer) -> None:
        self.name, self.optimizer_name = name, f"{name[0]}_optimizer"
        self.network, self.optimizer = network, optimizer
        self.draws: bool | None = None
        self.bare = parallel.unwrapped(network)
        self.look()

    def look(self) -> None:
        """Find what is in the network, and under its wrappers, as it is now. At every forward pass it costs 100 µs.

        Raises:
            TypeError, ValueError: the network is sharded in another way.
        """
        self.parameters = list(self.network.parameters())
        bare = parallel.unwrapped(self.network)
        if bare is not self.bare:
            self.bare, self.draws = bare, None
        self.batch_norms = [m for m in bare.modules() if isinstance(m, _BatchNorm)]
        self._wrapper = parallel.data_parallel(self.network)
        self.units = parallel.units(self.name, self.bare)
        self.is_parallel = self._wrapper is not None or bool(self.units)

    def watched(self) -> list[Any]:
        """What differs where network, optimizer or what they hold are no longer those that were checked. A layer
        that was replaced shows by its parameters, which get no gradient any more."""
        watched: list[Any] = [self.network, self.optimizer]
        for group in getattr(self.optimizer, "param_groups", ()):
            watched += map(id, group["params"])
        watched += [(p.requires_grad, p.grad is None) for p in self.parameters]
        return watched

    def check_trainable(self, op: str) -> None:
        if not any(p.requires_grad for p in self.parameters):
            raise ValueError(f"{op}: {self.name} must have trainable parameters, got none")

    @property
    def device(self) -> torch.device:
        return self.parameters[0].device

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within it, the parameters require no gradient."""
        thawed = [p for p in self.parameters if p.requires_grad]
        try:
            for p in thawed:
                p.requires_grad_(False)
            yield
        finally:
            for p in thawed:
                p.requires_grad_(True)

    def no_sync(self, wanted: bool = True) -> AbstractContextManager[None]:
        """The context of a forward pass whose gradients DistributedDataParallel is not to reduce, if `wanted`."""
        return parallel.without_sync(self._wrapper, wanted)

    def sync_buffers(self) -> None:
        """Give every process the first one's buffers now."""
        parallel.sync_buffers(self._wrapper)

    def reshard(self) -> None:
        """Free what forward passes without a backward have gathered."""
        parallel.reshard(self.units)

    def gathered(self, wanted: bool) -> AbstractContextManager[None]:
        """Within it, if `wanted`, a backward pass leaves sharded parameters gathered for another one."""
        return parallel.gathered_throughout(self.units if wanted else [])

    def zero_grad(self) -> None:
        # What optimizer.zero_grad does, without its 20 µs of records for the profiler.
        for group in self.optimizer.param_groups:
            for p in group["params"]:
                p.grad = None

    def update(
        self,
        max_norm: float | None,
        scaler: torch.amp.GradScaler | None,
        update_if: Callable[[list[nn.Parameter]], bool] | None,
    ) -> None:
        """The optimizer's step, unless `update_if` says no, with the gradient clipped to `max_norm`."""
        if update_if is not None and not update_if(self.parameters):
            return
        if scaler is not None and max_norm is not None:
            scaler.unscale_(self.optimizer)
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, max_norm)
        if scaler is None:
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()
        # An autocast region around the step, or around many, keeps the casts of the weights as they were before.
        torch.clear_autocast_cache()
