"""Weights from another run: checking them against a network, and starting a run from them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import nn

from pygan import _trainer_state as states
from pygan._parallel import unwrapped
from pygan.trainer import GANTrainer
from pygan.training.checkpoint_files import find_checkpoint, load_run

__all__ = ["PretrainedRun", "check_weights"]


def check_weights(
    op: str, name: str, network: nn.Module, weights: Mapping[str, Any], whose: str
) -> None:
    """Check that the weights fit the network.

    Raises:
        ValueError: they do not; the message names the parameters and buffers that differ.
    """
    differ = states.differences(unwrapped(network).state_dict(), weights)
    if differ:
        raise ValueError(
            f"{op}: {name} must be the network of {whose}, got one that differs in {differ}"
        )


class PretrainedRun:
    """A run whose networks another run starts from.

    Args:
        path: the run's folder, or a checkpoint.

    Raises:
        CheckpointError: the checkpoint is missing or unusable.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.file = find_checkpoint(path)
        state = load_run(self.file)
        self.step: int = state["step"]
        self._weights: dict[str, Any] = {
            name: state["trainer"][name]
            for name in ("generator", "discriminator", "ema")
            if name in state["trainer"]
        }

    def check(self, generator: nn.Module, discriminator: nn.Module) -> None:
        """Check that the networks have the same parameters and buffers as the run's.

        Raises:
            ValueError: they do not; the message names those that differ.
        """
        for name, network in (("generator", generator), ("discriminator", discriminator)):
            check_weights(
                "pygan.fit",
                name,
                network,
                self._weights.get(name, {}),
                f"the checkpoint {self.file}, for init_from",
            )

    def load_into(self, trainer: GANTrainer) -> str:
        """Load the networks and the average, which starts from the generator if that run had none. Returns a message
        that says what was loaded."""
        parts: dict[str, Any] = {
            name: unwrapped(getattr(trainer, name)) for name in ("generator", "discriminator")
        }
        weights = dict(self._weights)
        average = "no average"
        if trainer.ema is not None and "ema" in weights:
            parts["ema"], average = trainer.ema, "its average"
        elif trainer.ema is not None:
            parts["ema"], weights["ema"] = trainer.ema.module, weights["generator"]
            average = "an average that starts from its generator"
        elif "ema" in weights:
            average = "without its average"
        states.load(parts, weights, is_sharded=trainer.is_sharded)
        return f"begins with the networks of {self.file}, step {self.step}, and {average}"
