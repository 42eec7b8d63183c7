"""Samples for looking at: drawn so that training goes on as if they had not been."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pygan._trainer_checks import latent_shape
from pygan.trainer import GANTrainer
from pygan.training.data import Data
from pygan.training.preview import checked_preview, image_grid, is_images
from pygan.training.random_state import isolated
from pygan.training.sampler import derived_seed

__all__ = ["Sampling"]


class Sampling:
    """Draws from the trainer's generator, in eval mode, from its average if there is one.

    Args:
        trainer: the trainer.
        data: where labels are taken from, for conditional networks.
        seed: of latents and labels.
        batch_size: most samples that are generated at a time.
        device: of the networks.
    """

    def __init__(
        self, trainer: GANTrainer, data: Data, *, seed: int, batch_size: int, device: torch.device
    ) -> None:
        self.trainer, self.data, self.device = trainer, data, device
        self.seed, self.batch_size = seed, batch_size
        self.fixed: tuple[Tensor | None, Tensor | None] | None = None
        """The latents and labels of the sample grids, the same in the whole run."""
        self._said = False

    def fix(self, n: int) -> None:
        """Draw the latents and labels of n samples for the grids, unless a checkpoint had as many."""
        if self.fixed is not None and n == len(next(x for x in self.fixed if x is not None)):
            return
        with isolated(derived_seed(self.seed, "grid"), self.device):
            labels = self.data.labels(n, derived_seed(self.seed, "grid labels"))
            if labels is not None and labels.dim() == 1:
                labels = labels.sort().values  # each class side by side
            self.fixed = self._latents(n), labels

    def picture(
        self, preview: Callable[[Tensor], Any] | None, say: Callable[[str], None] | None
    ) -> NDArray[np.uint8] | None:
        """The samples of the fixed latents, as a picture (H, W, C); None if they are no images and nobody says how to
        show them. Of images with other channels than 1 or 3 that is said, once."""
        assert self.fixed is not None
        with isolated(derived_seed(self.seed, "grid"), self.device):
            latents, labels = self.fixed
            given = labels if latents is None else latents
            assert given is not None
            samples = self._samples(len(given), latents, labels)
            if preview is not None:
                return checked_preview(preview(samples))
            if is_images(samples):
                return image_grid(samples)
        if samples.dim() == 4 and samples.shape[1] not in (1, 3) and say and not self._said:
            self._said = True
            say(
                f"pygan.fit: no sample grids: the images have {samples.shape[1]} channels, not 1 or 3; preview= can "
                "show them"
            )
        return None

    def evaluation(
        self, evaluate: Callable[[Callable[[int], Tensor]], dict[str, float]], step: int
    ) -> Any:
        """What `evaluate` returns, given a function that draws n fresh samples."""
        calls = 0

        def sample(n: int) -> Tensor:
            nonlocal calls
            calls += 1
            seed = derived_seed(self.seed, "evaluation", step, calls)
            with isolated(seed, self.device):
                return self._samples(n, self._latents(n), self.data.labels(n, seed))

        with isolated(derived_seed(self.seed, "evaluate", step), self.device):
            return evaluate(sample)

    def _latents(self, n: int) -> Tensor | None:
        latent = self.trainer.latent
        if latent is None or callable(latent):
            return None if latent is None else latent(n)
        like = next(self.trainer.generator.parameters())
        # On the CPU: the same on every device.
        return torch.randn(n, *latent_shape(latent)).to(like.device, like.dtype)

    def _samples(self, n: int, latents: Tensor | None, labels: Tensor | None) -> Tensor:
        parts = []
        for first in range(0, n, self.batch_size):
            part = slice(first, min(n, first + self.batch_size))
            latent, its_labels = (
                None if given is None else given[part].to(self.device)
                for given in (latents, labels)
            )
            parts.append(self.trainer.sample(part.stop - first, its_labels, latent=latent))
        return torch.cat(parts)
