"""Samples: the generator's part of GANTrainer's steps, from latents to samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pygan import _trainer_checks as checked
from pygan import _trainer_output_checks as outputs
from pygan._trainer_batches import Batch, MicroBatch, Share, placed
from pygan._trainer_player import Player
from pygan._trees import mapped
from pygan.noise import instance_noise
from pygan.stream import NoiseStream

__all__ = ["Generated", "Samples"]


class Generated(NamedTuple):
    """The generator's output."""

    output: Any
    """Everything it returned."""
    samples: Tensor
    """The samples in `output`."""


class Samples:
    """Draws latents and generates samples from them.

    Args:
        player: the generator.
        latent, generator_inputs, generated: as for GANTrainer.
        stream: the stream of the latents.
    """

    def __init__(
        self,
        player: Player,
        latent: int | Sequence[int] | Callable[[int], Tensor] | None,
        generator_inputs: Callable[[Any, Any], tuple[Any, ...]] | None,
        generated: Callable[[Any], Tensor] | None,
        stream: NoiseStream,
    ) -> None:
        self._player = player
        self.latent, self.generator_inputs = latent, generator_inputs
        self.generated, self.stream = generated, stream

    def batches(
        self, count: int, n: int, real: Tensor | None, labels: Any, share: Share
    ) -> list[Batch]:
        """Real samples and labels, `count` times, each time with new latents of n samples."""
        real, labels = (mapped(_savable, x) for x in (real, labels))
        latents = [mapped(_savable, x) for x in self._latents(count, n, share)]
        return [Batch(n, real, latent, labels, share) for latent in latents]

    def _latents(self, count: int, n: int, share: Share) -> Sequence[Tensor | None]:
        if self.latent is None:
            return [None] * count
        if callable(self.latent):
            # Every process draws the whole batch, so that identically seeded processes draw what one process would.
            drawn = [checked.latents(self.latent(share.total), share.total) for _ in range(count)]
            first = share.first or 0
            return [latent[first : first + n] for latent in drawn]
        like = self._player.parameters[0]
        shape = checked.latent_shape(self.latent)
        zeros: Sequence[Tensor] = [
            torch.zeros(count * n, *shape, dtype=like.dtype, device=like.device)
        ]
        if count > 1:
            # Not views, of which autograd lets the generator change none in place.
            zeros = zeros[0].unsafe_split(n)
        if self.stream.device != like.device:
            self.stream.to(like.device)
        with placed([self.stream], share):
            return instance_noise(zeros, 1.0, stream=self.stream, out=zeros)

    def made_by(self, generate: Callable[..., Any], batch: Batch | MicroBatch) -> Generated:
        """Runs the generator, or its average, on latents and labels."""
        try:
            output = generate(*self._inputs(batch.latent, batch.labels))
        except (RuntimeError, ValueError, TypeError) as error:
            bare = self._player.bare
            explained: Exception = outputs.latent_error(error, bare, self.latent, batch.n)
            if explained is error and self.generator_inputs is None:
                inputs = {"latents": batch.latent, "labels": batch.labels}
                explained = outputs.input_error(error, "generator", inputs, bare)
            if explained is error:
                raise
            raise explained from error
        return Generated(output, outputs.samples(output, self.generated, batch.n))

    def _inputs(self, latent: Tensor | None, labels: Any) -> tuple[Any, ...]:
        if self.generator_inputs is not None:
            return outputs.arguments("generator_inputs", self.generator_inputs(latent, labels))
        return tuple([x for x in (latent, labels) if x is not None])


def _savable(x: Tensor) -> Tensor:
    """The tensor, or a copy if autograd cannot save it for the backward pass: if it was made in inference mode."""
    return x.clone() if x.is_inference() else x
