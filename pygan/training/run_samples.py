"""Generated samples for inspection, drawn without affecting the training."""

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
from pygan.training.drawing import CaptionedPreview, captioned
from pygan.training.random_state import isolated
from pygan.training.sample_grids import WIDTH, checked_preview, image_grid, is_images

__all__ = ["Sampling"]

# Samples come from the average once its initial weights account for at most this share; before, grids would be gray.
MAX_INITIAL_WEIGHT = 0.05


def initial_share(average: Any) -> float:
    """How much of an average the initial weights still make up; 0 where that is unknown."""
    if not isinstance(average, EMA):
        return 0.0
    return float(average.decay ** int(average.n_averaged))


class Sampling:
    """Draws samples from the trainer's generator in eval mode, or from its average if there is one.

    Args:
        trainer: the trainer.
        data: the source of labels for conditional networks.
        seed: the seed of latents and labels.
        batch_size: the largest number of samples generated at a time.
        device: the device of the networks.
    """

    def __init__(
        self, trainer: GANTrainer, data: Data, *, seed: int, batch_size: int, device: torch.device
    ) -> None:
        self.trainer, self.data, self.device = trainer, data, device
        self.seed, self.batch_size = seed, batch_size
        self.fixed: tuple[Tensor | None, Tensor | None] | None = None
        """The latents and labels of the sample grids, which stay the same during the whole run."""
        self._warned = False

    def fix(self, n: int) -> None:
        """Draw the latents and labels of n samples for the grids, unless a checkpoint contained as many."""
        if self.fixed is not None and n == len(next(x for x in self.fixed if x is not None)):
            return
        with isolated(derived_seed(self.seed, "grid"), self.device):
            labels = self.data.labels(n, derived_seed(self.seed, "grid labels"))
            if labels is not None and labels.dim() == 1:
                labels = labels.sort().values  # samples of a class side by side
            self.fixed = self._latents(n), labels

    def picture(
        self,
        preview: Callable[[Tensor], Any] | None,
        say: Callable[[str], None] | None,
        *,
        step: int,
    ) -> NDArray[np.uint8] | None:
        """The samples of the fixed latents as a picture (H, W, C); None if they are not images and there is no preview.
        For images whose number of channels is not 1 or 3, a message says so once.

        Samples come from the average once its initial weights account for little of it, and from the generator before
        that; the caption says which.
        """
        assert self.fixed is not None
        with isolated(derived_seed(self.seed, "grid"), self.device):
            latents, labels = self.fixed
            given = labels if latents is None else latents
            assert given is not None
            with self._source_note() as whose:
                samples = self._samples(len(given), latents, labels)
            grid = _as_picture(samples, preview, f"step {step:,}{whose}")
        if grid is not None:
            return grid
        if samples.dim() == 4 and samples.shape[1] not in (1, 3) and say and not self._warned:
            self._warned = True
            say(
                f"pygan.fit: no sample grids: the images have {samples.shape[1]} channels, not 1 or 3; preview= can "
                "show them"
            )
        return None

    def reals(self, preview: Callable[[Tensor], Any] | None, n: int) -> NDArray[np.uint8] | None:
        """Real samples in a grid like that of the generated ones; None if they are not images, or if the user has a
        preview, which is for generated samples."""
        if preview is not None and not isinstance(preview, CaptionedPreview):
            return None
        samples = self.data.sample(n, derived_seed(self.seed, "reals"))
        return (
            _as_picture(samples, preview, "real samples") if samples.is_floating_point() else None
        )

    @contextmanager
    def _source_note(self) -> Iterator[str]:
        """Select the network that samples are drawn from within this context, and yield a note for the caption."""
        ema = self.trainer.ema
        if ema is None:
            yield ""
        elif initial_share(ema) > MAX_INITIAL_WEIGHT:
            self.trainer.ema = None
            try:
                yield ", without EMA (too early)"
            finally:
                self.trainer.ema = ema
        else:
            yield ", with EMA" if isinstance(ema, EMA) else ", averaged weights"

    def evaluation(
        self, evaluate: Callable[[Callable[[int], Tensor]], dict[str, float]], step: int
    ) -> Any:
        """Call `evaluate` with a function that draws n new samples."""
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
        # Drawn on the CPU, so that they are the same on every device.
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


def _as_picture(
    samples: Tensor, preview: Callable[[Tensor], Any] | None, caption: str
) -> NDArray[np.uint8] | None:
    """The picture that a preview makes of the samples, or a grid without one; None if the samples are not images. Grids
    and built-in previews have a caption."""
    if isinstance(preview, CaptionedPreview):
        note = f"; {preview.note}" if preview.note else ""
        return captioned(preview(samples), caption + note)
    if preview is not None:
        return checked_preview(preview(samples))
    return captioned(image_grid(samples, width=WIDTH), caption) if is_images(samples) else None
