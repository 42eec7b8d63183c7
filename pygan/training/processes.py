"""The processes of a run, using Hugging Face accelerate: device, wrappers, precision and communication."""

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

# Error messages of the backends when another process has ended; gloo raises a plain RuntimeError.
_LOST = re.compile(
    r"gloo|NCCL|ProcessGroup|Connection (closed|reset|refused)|Broken pipe|Timed out waiting|socket",
    re.IGNORECASE,
)


class Processes:
    """The features of an Accelerator that `fit` uses.

    Args:
        accelerator: the user's accelerator, or None to create one.
        mixed_precision: "no", "bf16", "fp16", or None for the setting of `accelerate launch` or the accelerator.

    Raises:
        ValueError: a precision that the device does not support, or that differs from the accelerator's; gradient
            accumulation.
        RuntimeError: processes that accelerate does not know of, or a parallelization that does not work with GANs.
    """

    def __init__(self, accelerator: Any, mixed_precision: str | None) -> None:
        state = extra("accelerate.state", "pygan.fit").AcceleratorState
        # accelerate keeps one precision for the lifetime of the process; its state is restored afterwards.
        self._forget_state = None if state._shared_state else state._reset_state
        if accelerator is None:
            # Without a GPU, accelerate treats the processes as independent runs unless it is told otherwise.
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
            self.device = torch.device("cpu")  # accelerate adds an index
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
        if precision == "fp16" and self.scaler is None:  # accelerate would silently use fp32
            raise ValueError(
                f"pygan.fit: mixed_precision must not be fp16 on {self.device.type} (bf16 is supported), got 'fp16'"
            )
        accumulated = self.accelerator.gradient_accumulation_steps
        if accumulated != 1:
            raise ValueError(
                f"pygan.fit: accelerator must have gradient_accumulation_steps of 1, got {accumulated}; use "
                "micro_batches= to accumulate gradients"
            )
        kind = self.accelerator.distributed_type.value
        if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
            kind = "FSDP"  # on CPUs, accelerate silently ignores it
        if kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
            raise RuntimeError(
                f"pygan.fit: accelerator must use DistributedDataParallel, got {kind}; to shard the networks, use "
                "sharded=True and leave accelerate's own sharding off"
            )
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if distributed and torch.distributed.get_world_size() != self.world:
            raise RuntimeError(
                f"pygan.fit: torch.distributed has {torch.distributed.get_world_size()} processes, and accelerate "
                f"sees {self.world}: start them with torchrun or accelerate launch, or set RANK, WORLD_SIZE, "
                "LOCAL_RANK, MASTER_ADDR and MASTER_PORT in each"
            )

    @contextmanager
    def prepared(self, *networks: nn.Module, wrapped: bool) -> Iterator[list[nn.Module]]:
        """A context in which the networks are on the device, each in its own wrapper if `wrapped` is set; leaving it
        restores their forward."""
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
        """The values of all processes in the order of their ranks, in every process."""
        values = [value] * self.world
        if self.world > 1:
            torch.distributed.all_gather_object(values, value)
        return values

    def from_main(self, function: Callable[[], Any]) -> Any:
        """Call the function in the main process, and return its result or raise its exception in every process."""
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

    def max_over_processes(self, number: int | None) -> int | None:
        """The largest number in any process; None if every process passes None or 0."""
        if self.world == 1:
            return number
        tensor = torch.tensor(number or 0, device=self.device)
        torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MAX)
        return int(tensor) or None

    def synchronize(self) -> None:
        """Wait until the device has finished its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def wait(self) -> None:
        """Wait until all processes have reached this point."""
        self.accelerator.wait_for_everyone()

    def is_process_lost(self, error: BaseException) -> bool:
        """Whether the error is one that a collective raises when another process has ended."""
        if self.world == 1 or not isinstance(error, RuntimeError):
            return False
        return isinstance(error, torch.distributed.DistError) or bool(_LOST.search(str(error)))


def restore_forward(network: nn.Module, forward: Any = None) -> None:
    """Remove the autocast that accelerate wraps around a network's forward."""
    if network.__dict__.pop("_original_forward", None) is not None:
        del network.forward
        if forward is not None:
            network.forward = forward
