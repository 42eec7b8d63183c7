"""Weights from another run: checking them against a network, and starting a run from them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from pygan import _trainer_state as states
from pygan._parallel import unwrapped
from pygan.trainer import GANTrainer
from pygan.training.checkpoint_files import find_checkpoint, load_run

__all__ = ["OtherRun", "check_weights"]

_LISTED = 5


def check_weights(
    op: str, name: str, network: nn.Module, weights: Mapping[str, Any], whose: str
) -> None:
    """Raise a ValueError that names the parameters and buffers in which a network differs from the weights."""
    own = unwrapped(network).state_dict()
    differ = []
    for key in [*own, *(key for key in weights if key not in own)]:
        mine, theirs = (_shown(its, key) for its in (own, weights))
        if mine != theirs:
            differ.append(f"{key} ({theirs} for {mine})")
    if differ:
        more = f" and {len(differ) - _LISTED} more" if len(differ) > _LISTED else ""
        raise ValueError(
            f"{op}: {name} must be the network of {whose}, got one that differs in "
            f"{', '.join(differ[:_LISTED])}{more}"
        )


def _shown(weights: Mapping[str, Any], key: str) -> str:
    if key not in weights:
        return "none"
    value = weights[key]
    return f"{tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


class OtherRun:
    """The run whose networks another one begins with.

    Args:
        path: its folder, or a checkpoint.

    Raises:
        CheckpointError: there is none, or it cannot be used.
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
        """That the networks are like its own.

        Raises:
            ValueError: they are not; the message names the parameters.
        """
        for name, network in (("generator", generator), ("discriminator", discriminator)):
            check_weights(
                "pygan.fit",
                name,
                network,
                self._weights.get(name, {}),
                f"the checkpoint {self.file}, for init_from",
            )

    def give(self, trainer: GANTrainer) -> str:
        """Load the networks, and the average, which begins with the generator where that run had none; what was done,
        in words."""
        parts: dict[str, Any] = {
            name: unwrapped(getattr(trainer, name)) for name in ("generator", "discriminator")
        }
        weights = dict(self._weights)
        average = "no average"
        if trainer.ema is not None and "ema" in weights:
            parts["ema"], average = trainer.ema, "its average"
        elif trainer.ema is not None:
            parts["ema"], weights["ema"] = trainer.ema.module, weights["generator"]
            average = "an average that begins with its generator"
        elif "ema" in weights:
            average = "without its average"
        states.load(parts, weights, is_sharded=trainer.is_sharded)
        return f"begins with the networks of {self.file}, step {self.step}, and {average}"
