"""Player: a network that GANTrainer trains, generator or discriminator, with its optimizer and wrappers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from pygan import _parallel as parallel

__all__ = ["Player"]


class Frozen:
    """Context in which the parameters do not require gradients. (A class, because a generator of contextlib takes as
    long as the flags of ten parameters.)"""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._thawed = [p for p in parameters if p.requires_grad]

    def __enter__(self) -> None:
        for p in self._thawed:
            p.requires_grad = False

    def __exit__(self, *error: object) -> None:
        for p in self._thawed:
            p.requires_grad = True


class Player:
    """One of the two networks of a GAN.

    Args:
        name: "generator" or "discriminator", for messages.
        network: may be wrapped by DistributedDataParallel or torch.compile, or sharded by `fully_shard`.
        optimizer: the optimizer of the network's parameters.

    Attributes:
        network, optimizer: may be replaced; call `refresh` afterwards.
        optimizer_name: the name of GANTrainer's argument for the optimizer.
        parameters: the network's parameters.
        bare: the network without its wrappers.
        batch_norms: its BatchNorm modules.
        units: the modules to which `fully_shard` was applied.
        is_parallel: whether several processes train the network together.
        is_trainable: whether a parameter required gradients at the last `refresh`.
        draws: whether the network draws from the device's generator, as dropout does; None if unknown.
    """

    def __init__(self, name: str, network: nn.Module, optimizer: Optimizer) -> None:
        self.name, self.optimizer_name = name, f"{name[0]}_optimizer"
        self.network, self.optimizer = network, optimizer
        self.draws: bool | None = None
        self.bare = parallel.unwrapped(network)
        self.refresh()

    def refresh(self) -> None:
        """Update the attributes from the current network and its wrappers. Too slow for every forward pass (100 µs).

        Raises:
            TypeError, ValueError: the network is sharded in an unsupported way.
        """
        self.parameters = list(self.network.parameters())
        self.is_trainable = any(p.requires_grad for p in self.parameters)
        bare = parallel.unwrapped(self.network)
        if bare is not self.bare:
            self.bare, self.draws = bare, None
        self.batch_norms = [m for m in bare.modules() if isinstance(m, _BatchNorm)]
        self._wrapper = parallel.data_parallel(self.network)
        if self._wrapper is not None:
            parallel.ignore_same_layout()
        self.units = parallel.units(self.name, self.bare)
        self.is_parallel = self._wrapper is not None or bool(self.units)

    def fingerprint(self) -> list[Any]:
        """A fingerprint that changes if the network, the optimizer or their contents are replaced. A replaced layer is
        detected by its parameters, which no longer get a gradient."""
        fingerprint: list[Any] = [self.network, self.optimizer]
        for group in getattr(self.optimizer, "param_groups", ()):
            fingerprint += map(id, group["params"])
        fingerprint += [(p.requires_grad, p.grad is None) for p in self.parameters]
        return fingerprint

    def check_trainable(self, op: str) -> None:
        if not self.is_trainable:
            raise ValueError(f"{op}: {self.name} must have trainable parameters, got none")

    @property
    def device(self) -> torch.device:
        return self.parameters[0].device

    def frozen(self) -> Frozen:
        """Context in which the parameters do not require gradients."""
        return Frozen(self.parameters)

    def run(self, *arguments: Any, reduced: bool) -> Any:
        """Runs the network; DistributedDataParallel reduces the gradients of this pass if they are to be `reduced`."""
        if reduced or self._wrapper is None:
            return self.network(*arguments)
        with self._wrapper.no_sync():
            return self.network(*arguments)

    def sync_buffers(self) -> None:
        """Broadcast the first process's buffers to all processes."""
        parallel.sync_buffers(self._wrapper)

    def reshard(self) -> None:
        """Free the parameters gathered by forward passes without a backward pass."""
        parallel.reshard(self.units)

    def zero_grad(self) -> None:
        # Like optimizer.zero_grad, without its 20 µs of profiler bookkeeping.
        for group in self.optimizer.param_groups:
            for p in group["params"]:
                p.grad = None

    def update(
        self,
        max_norm: float | None,
        scaler: torch.amp.GradScaler | None,
        update_if: Callable[[list[nn.Parameter]], bool] | None,
    ) -> None:
        """The optimizer's step, with the gradient clipped to `max_norm`; skipped if `update_if` returns False."""
        # An enclosing autocast region would otherwise keep using casts of the old weights, or, in older versions of
        # torch, casts that were made without a graph and have no gradients.
        torch.clear_autocast_cache()
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
