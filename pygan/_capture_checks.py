"""Checks of GANTrainer.capture, before it changes anything."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pygan._validation import describe
from pygan.average import EMA

_NAME = "GANTrainer.capture"


def check_trainer(trainer: Any) -> None:
    """Check that the trainer's components can be captured. (CapturedOptimizer checks the optimizers.)"""
    networks = trainer._networks
    if networks.is_parallel:
        raise RuntimeError(
            f"{_NAME}: networks must be trained by a single process, because capturing the reductions of "
            "DistributedDataParallel and fully_shard is not supported, got a wrapped or sharded one"
        )
    modules = [networks.g.bare, networks.d.bare, trainer.ema, trainer.noise]
    tensors = [x for m in modules if m is not None for x in (*m.parameters(), *m.buffers())]
    devices = {str(x.device) for x in tensors}
    if len(devices) > 1:
        raise RuntimeError(
            f"{_NAME}: networks, average and noise must be on one device, got {', '.join(sorted(devices))}"
        )
    for player in (networks.g, networks.d):
        config: dict[str, Any] = getattr(player.network.forward, "get_compiler_config", dict)()
        if config.get("triton.cudagraphs"):
            raise RuntimeError(
                f"{_NAME}: {player.name} must be compiled without CUDA graphs, got one that uses them; compile it in "
                "the default mode"
            )
    if trainer.ema is not None and not isinstance(trainer.ema, EMA):
        raise RuntimeError(
            f"{_NAME}: ema must be a pygan.EMA, because torch's AveragedModel synchronizes with the device in each "
            f"update, got {type(trainer.ema).__name__}"
        )
    scales = trainer.scaler is not None and trainer.scaler.is_enabled()
    for player in (networks.g, networks.d):
        if scales and not getattr(player.optimizer, "_step_supports_amp_scaling", False):
            raise RuntimeError(
                f"{_NAME}: {player.optimizer_name} must be created with fused=True if there is a scaler, which "
                f"otherwise decides on the host whether to skip an update, got {type(player.optimizer).__name__} "
                "without it"
            )
    check_no_condition(_NAME, trainer)


def check_no_condition(op: str, trainer: Any) -> None:
    if trainer.update_if is not None:
        raise RuntimeError(
            f"{op}: update_if must be None in a captured step, because it runs on the host, got "
            f"{describe(trainer.update_if)}"
        )


def check_input(x: Any, device: torch.device) -> None:
    """Check that a tensor of the batch can be copied into the graphs' inputs."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{_NAME}: real and labels must consist of tensors, got {describe(x)}")
    if x.device != device or x.requires_grad:
        raise ValueError(
            f"{_NAME}: real and labels must be on {device}, like the networks, and must not require a gradient, got "
            f"{'one that does' if x.requires_grad else x.device}"
        )


def check_repeatable(trainer: Any) -> None:
    """Check, after the warm-up, that a discriminator whose finite differences are taken draws no random numbers."""
    if trainer._networks.d.draws and any(p.compares for p in trainer.penalties):
        raise RuntimeError(
            f"{_NAME}: discriminator must not draw random numbers (dropout) for a penalty with sigma, because a graph "
            "cannot draw the same ones twice, got one that does"
        )
