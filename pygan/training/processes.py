"""The processes of a run, through Hugging Face accelerate: device, wrappers, precision, and communication."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from pygan.training.extras import extra

__all__ = ["Processes", "restore_forward"]

# What the backends say when another process is gone; gloo says it in a plain RuntimeError.
_LOST = re.compile(
    r"gloo|NCCL|ProcessGroup|Connection (closed|reset|refused)|Broken pipe|Timed out waiting|socket",
    re.IGNORECASE,
)


class Processes:
    """What `fit` wants of an Accelerator.

    Args:
        accelerator: the user's, or None to make one.
        mixed_precision: "no", "bf16", "fp16", or None for what `accelerate launch` or the accelerator was told.

    Raises:
        ValueError: a precision that the device cannot do, or that is not the given accelerator's; accumulated
            gradients.
        RuntimeError: processes that accelerate does not see, or a way of sharing the work that a GAN cannot use here.
    """

    def __init__(self, accelerator: Any, mixed_precision: str | None) -> None:
        state = extra("accelerate.state", "pygan.fit").AcceleratorState
        # Left as it was found: with accelerate, one precision is for the whole life of the process.
        self._forget_state = None if state._shared_state else state._reset_state
        if accelerator is None:
            # Several processes without a GPU are to accelerate one each, unless it is told.
            accelerator = extra("accelerate", "pygan.fit").Accelerator(
                cpu=not torch.cuda.is_available(), mixed_precision=mixed_precision
            )
        elif mixed_precision not in (None, accelerator.mixed_precision):
            raise ValueError(
                f"pygan.fit: mixed_precision must be the given accelerator's, {accelerator.mixed_precision!r}, "
                f"got {mixed_precision!r}"
            )
        self.accelerator = accelerator
        self.device: torch.device = accelerator.device
        if self.device.type == "cpu":
            self.device = torch.device("cpu")  # which accelerate numbers
        self.rank: int = accelerator.process_index
        self.world: int = accelerator.num_processes
        self.is_main = self.rank == 0
        self.scaler: torch.amp.GradScaler | None = accelerator.scaler
        try:
            self._check()
        except Exception:
            self._leave()
            raise

    def _check(self) -> None:
        precision = self.accelerator.mixed_precision
        if precision == "fp16" and self.scaler is None:  # accelerate would say nothing and use fp32
            raise ValueError(
                f"pygan.fit: mixed_precision must not be fp16 on {self.device.type} (bf16 can be), got 'fp16'"
            )
        accumulated = self.accelerator.gradient_accumulation_steps
        if accumulated != 1:
            raise ValueError(
                f"pygan.fit: accelerator must have gradient_accumulation_steps of 1, got {accumulated}; use "
                "micro_batches= to accumulate gradients"
            )
        kind = self.accelerator.distributed_type.value
        if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
            kind = "FSDP"  # which on CPUs accelerate passes over in silence
        if kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
            raise RuntimeError(
                f"pygan.fit: accelerator must use DistributedDataParallel, got {kind}; to shard the networks, use "
                "sharded=True, for which accelerate is to be told nothing"
            )
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if distributed and torch.distributed.get_world_size() != self.world:
            raise RuntimeError(
                f"pygan.fit: torch.distributed has {torch.distributed.get_world_size()} processes, and accelerate "
                f"sees {self.world}: start them by torchrun or accelerate launch, or set RANK, WORLD_SIZE, LOCAL_RANK, "
                "MASTER_ADDR and MASTER_PORT in each"
            )

    @contextmanager
    def prepared(self, *networks: nn.Module, wrapped: bool) -> Iterator[list[nn.Module]]:
        """The networks on the device, each wrapped for itself if that is wanted; afterwards their forward is their own
        again."""
        own = [network.__dict__.get("forward") for network in networks]
        try:
            yield [
                self.accelerator.prepare_model(network, evaluation_mode=not wrapped)
                for network in networks
            ]
        finally:
            for network, forward in zip(networks, own, strict=True):
                restore_forward(network, forward)
            self._leave()

    def _leave(self) -> None:
        if self._forget_state is not None:
            self._forget_state()

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in the order of the ranks, on all of them."""
        values = [value] * self.world
        if self.world > 1:
            torch.distributed.all_gather_object(values, value)
        return values

    def from_main(self, function: Callable[[], Any]) -> Any:
        """What the function returns, or raises, in the main process: on all of them."""
        result, error = None, None
        if self.is_main:
            try:
                result = function()
            except Exception as raised:
                error = raised
        if self.world > 1:
            both = [result, error]
            torch.distributed.broadcast_object_list(both, device=self.device)
            result, error = both
        if error is not None:
            raise error
        return result

    def agree(self, number: int | None) -> int | None:
        """The highest number that any process gives; None if none does."""
        if self.world == 1:
            return number
        tensor = torch.tensor(number or 0, device=self.device)
        torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MAX)
        return int(tensor) or None

    def synchronize(self) -> None:
        """Return when the device has done what it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def wait(self) -> None:
        """Until all processes are here."""
        self.accelerator.wait_for_everyone()

    def lost(self, error: BaseException) -> bool:
        """Whether this is what a collective raises when another process has ended."""
        if self.world == 1 or not isinstance(error, RuntimeError):
            return False
        return isinstance(error, torch.distributed.DistError) or bool(_LOST.search(str(error)))


def restore_forward(network: nn.Module, forward: Any = None) -> None:
    """Take the autocast away that accelerate put around a network's forward."""
    if network.__dict__.pop("_original_forward", None) is not None:
        del network.forward
        if forward is not None:
            network.forward = forward
