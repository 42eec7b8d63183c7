"""Samples for inspection, drawn without affecting the training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pygan._trainer_checks import latent_shape
from pygan.average import EMA
from pygan.trainer import GANTrainer
from pygan.training.batch_order import derived_seed
from pygan.training.data import Data
from pygan.training.drawing import Drawn, captioned
from pygan.training.random_state import isolated
from pygan.training.sample_grids import WIDTH, checked_preview, image_grid, is_images

__all__ = ["Sampling"]

# The share of the weights it began with, up to which an average is shown. A larger one makes grids gray.
FIRST_WEIGHTS = 0.05


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
        self,
        preview: Callable[[Tensor], Any] | None,
        say: Callable[[str], None] | None,
        *,
        step: int,
    ) -> NDArray[np.uint8] | None:
        """The samples of the fixed latents, as a picture (H, W, C); None if they are no images and nobody says how to
        show them. Of images with other channels than 1 or 3 that is said, once.

        They are the average's as soon as what it began with is of little weight in it, and the generator's until
        then, as the caption says.
        """
        assert self.fixed is not None
        with isolated(derived_seed(self.seed, "grid"), self.device):
            latents, labels = self.fixed
            given = labels if latents is None else latents
            assert given is not None
            with self._best() as whose:
                samples = self._samples(len(given), latents, labels)
            grid = _shown(samples, preview, f"step {step:,}{whose}")
        if grid is not None:
            return grid
        if samples.dim() == 4 and samples.shape[1] not in (1, 3) and say and not self._said:
            self._said = True
            say(
                f"pygan.fit: no sample grids: the images have {samples.shape[1]} channels, not 1 or 3; preview= can "
                "show them"
            )
        return None

    def reals(self, preview: Callable[[Tensor], Any] | None, n: int) -> NDArray[np.uint8] | None:
        """Real samples in a grid like those of the generated ones; None if they are no images, or are shown by a
        preview of the user's, which is for generated ones."""
        if preview is not None and not isinstance(preview, Drawn):
            return None
        samples = self.data.some(n, derived_seed(self.seed, "reals"))
        return _shown(samples, preview, "real samples") if samples.is_floating_point() else None

    @contextmanager
    def _best(self) -> Iterator[str]:
        """What samples are drawn from meanwhile, for a caption."""
        ema = self.trainer.ema
        if ema is None:
            yield ""
        elif isinstance(ema, EMA) and ema.decay ** int(ema.n_averaged) > FIRST_WEIGHTS:
            self.trainer.ema = None
            try:
                yield ", before averaging"
            finally:
                self.trainer.ema = ema
        else:
            yield ", averaged weights"

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


def _shown(
    samples: Tensor, preview: Callable[[Tensor], Any] | None, caption: str
) -> NDArray[np.uint8] | None:
    """The picture that a preview makes of samples, or else a grid; None of what is no image. The project's own have a
    caption."""
    if isinstance(preview, Drawn):
        note = f"; {preview.note}" if preview.note else ""
        return captioned(preview(samples), caption + note)
    if preview is not None:
        return checked_preview(preview(samples))
    return captioned(image_grid(samples, width=WIDTH), caption) if is_images(samples) else None
