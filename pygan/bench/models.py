"""The three GANs whose steps `python -m pygan bench --steps` measures."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from pygan.training.models import dcgan, mlp

__all__ = ["LATENT", "MODELS", "Model", "MultiScale"]

LATENT = 64


class MultiScale(nn.Module):
    """Patch discriminators on the image at full, half and quarter size (Wang et al. 2018a, pix2pixHD): a list of logit
    maps, (N, 1, h, w) each."""

    def __init__(self, channels: int, width: int, scales: int = 3) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, width, 4, 2, 1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, 2 * width, 4, 2, 1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(2 * width, 1, 3, 1, 1),
            )
            for _ in range(scales)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        logits = []
        for scale in self.scales:
            logits.append(scale(x))
            x = F.avg_pool2d(x, 2)
        return logits


class Model(NamedTuple):
    """The batch size, the shape of a sample, and a function that creates (G, D)."""

    batch: int
    shape: tuple[int, ...]
    make: Callable[[], tuple[nn.Module, nn.Module]]


def _patches() -> tuple[nn.Module, nn.Module]:
    generator, _ = dcgan((3, 64, 64), latent=LATENT, width=8)
    return generator, MultiScale(3, 16)


MODELS = {
    "MLP, 2-D, batch 100": Model(100, (2,), lambda: mlp((2,), latent=LATENT, depth=3)),
    "DCGAN, 32 × 32, batch 16": Model(
        16, (3, 32, 32), lambda: dcgan((3, 32, 32), latent=LATENT, width=16)
    ),
    "3 patch discriminators, 64 × 64, batch 8": Model(8, (3, 64, 64), _patches),
}
