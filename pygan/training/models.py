"""The networks of `pygan train`: perceptrons for points and tiny images, convolutions for images up to 64 × 64.

They are plain modules, good for a first run of one's own as well:

    from pygan.training.models import dcgan
    G, D = dcgan((3, 32, 32), latent=128)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from pygan._arguments import check_int

__all__ = ["ARCHITECTURES", "dcgan", "mlp"]


def mlp(
    shape: Sequence[int], *, latent: int, width: int = 128, depth: int = 2, batch_norm: bool = False
) -> tuple[nn.Module, nn.Module]:
    """Perceptrons with `depth` hidden layers of `width` units each: ReLU in the generator, LeakyReLU(0.2) in the
    discriminator.

    Args:
        shape: of a sample: (d,) for points, (C, H, W) for images, which are in [-1, 1] (the generator ends in tanh).
        latent: elements of a latent.
        batch_norm: in the generator's hidden layers.

    Returns:
        (generator, discriminator): (N, latent) to (N, *shape), and (N, *shape) to (N, 1).

    Raises:
        ValueError: a size that is no positive int.
    """
    _check_sizes("mlp", shape, latent=latent, width=width, depth=depth)
    size = math.prod(shape)

    def hidden(inputs: int, activation: nn.Module, norm: bool) -> list[nn.Module]:
        return [
            nn.Linear(inputs, width, bias=not norm),
            *([nn.BatchNorm1d(width)] if norm else []),
            activation,
        ]

    generator = hidden(latent, nn.ReLU(), batch_norm)
    discriminator = [nn.Flatten(), *hidden(size, nn.LeakyReLU(0.2), False)]
    for _ in range(depth - 1):
        generator += hidden(width, nn.ReLU(), batch_norm)
        discriminator += hidden(width, nn.LeakyReLU(0.2), False)
    generator.append(nn.Linear(width, size))
    if len(shape) > 1:
        generator += [nn.Tanh(), nn.Unflatten(1, tuple(shape))]
    discriminator.append(nn.Linear(width, 1))
    return nn.Sequential(*generator), nn.Sequential(*discriminator)


def dcgan(
    shape: Sequence[int], *, latent: int, width: int = 64, batch_norm: bool = True
) -> tuple[nn.Module, nn.Module]:
    """Convolutional networks in the manner of DCGAN (Radford et al. 2016): strides instead of pooling, one layer for
    every halving of the image down to 4 × 4. The discriminator has no BatchNorm, which gradient penalties and noise
    go badly with.

    Args:
        shape: of a sample: (C, S, S), S = 8, 16, 32 or 64; values in [-1, 1].
        latent: elements of a latent.
        width: channels of the layer next to the image; doubled at every halving.
        batch_norm: in the generator.

    Returns:
        (generator, discriminator): (N, latent) to (N, C, S, S), and (N, C, S, S) to (N, 1).

    Raises:
        ValueError: a size that does not fit.
    """
    if len(shape) != 3 or shape[1] != shape[2] or shape[1] not in (8, 16, 32, 64):
        raise ValueError(
            f"dcgan: shape must be (C, S, S) with S = 8, 16, 32 or 64, got {tuple(shape)}"
        )
    _check_sizes("dcgan", shape, latent=latent, width=width)
    widths = [width << i for i in range(int(math.log2(shape[1])) - 2)]

    def up(inputs: int, outputs: int) -> list[nn.Module]:
        norm = [nn.BatchNorm2d(outputs)] if batch_norm else []
        return [
            nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=not batch_norm),
            *norm,
            nn.ReLU(),
        ]

    generator = [
        nn.Linear(latent, widths[-1] * 16, bias=not batch_norm),
        nn.Unflatten(1, (widths[-1], 4, 4)),
        *([nn.BatchNorm2d(widths[-1])] if batch_norm else []),
        nn.ReLU(),
    ]
    discriminator: list[nn.Module] = []
    for inner, outer in zip(widths[:0:-1], widths[-2::-1], strict=True):
        generator += up(inner, outer)
    generator += [nn.ConvTranspose2d(width, shape[0], 4, 2, 1), nn.Tanh()]
    for inputs, outputs in zip([shape[0], *widths], widths):
        discriminator += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2)]
    discriminator += [nn.Flatten(), nn.Linear(widths[-1] * 16, 1)]
    return nn.Sequential(*generator), nn.Sequential(*discriminator)


ARCHITECTURES = {"mlp": mlp, "dcgan": dcgan}
"""By the name that a run's configuration gives."""


def _check_sizes(name: str, shape: Sequence[int], **sizes: int) -> None:
    for size in shape:
        check_int(name, "each size of shape", size)
    for argument, size in sizes.items():
        check_int(name, argument, size)
