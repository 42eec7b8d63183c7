"""Samples: the generator's side of GANTrainer's steps, from latents to samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pygan import _trainer_checks as checked
from pygan import _trainer_outputs as outputs
from pygan._player import Player
from pygan._trainer_batches import Share, placed
from pygan.noise import instance_noise
from pygan.stream import NoiseStream

__all__ = ["Samples"]


class Samples:
    """Draws latents, and makes samples of them.

    Args:
        player: the generator.
        latent, generator_inputs: as for GANTrainer.
        stream: of the latents.
    """

    def __init__(
        self,
        player: Player,
        latent: int | Sequence[int] | Callable[[int], Tensor],
        generator_inputs: Callable[[Tensor, Tensor | None], tuple[Any, ...]] | None,
        stream: NoiseStream,
    ) -> None:
        self._player = player
        self.latent, self.generator_inputs, self.stream = latent, generator_inputs, stream

    def latents(self, n: int, share: Share) -> Tensor:
        """Of n samples."""
        if callable(self.latent):
            # Of the whole batch in each process: those seeded alike then draw together what one process would.
            latent = self.latent(share.total)
            first = share.first or 0
            return checked.latents(latent, share.total)[first : first + n]
        like = self._player.parameters[0]
        shape = checked.latent_shape(self.latent)
        zeros = torch.zeros(n, *shape, dtype=like.dtype, device=like.device)
        if self.stream.device != like.device:
            self.stream.to(like.device)
        with placed([self.stream], share):
            return instance_noise(zeros, 1.0, stream=self.stream, out=zeros)

    def made_by(self, network: nn.Module, latent: Tensor, labels: Tensor | None) -> Tensor:
        """What the generator, or its average, makes of latents."""
        n = len(latent)
        try:
            samples = network(*self._inputs(latent, labels))
        except (RuntimeError, ValueError) as error:
            explained = outputs.latent_error(error, network, self.latent, n)
            if explained is error:
                raise
            raise explained from error
        return outputs.samples(samples, n)

    def _inputs(self, latent: Tensor, labels: Tensor | None) -> tuple[Any, ...]:
        if self.generator_inputs is not None:
            return self.generator_inputs(latent, labels)
        return (latent,) if labels is None else (latent, labels)
