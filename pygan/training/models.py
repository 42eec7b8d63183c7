"""The networks of `pygan train`: perceptrons for points and tiny images, convolutional networks for images from 8 to
256 pixels.

They are plain modules, which also suit a first experiment of your own:

    from pygan.training.models import dcgan
    G, D = dcgan((3, 32, 32), latent=128)

With ``classes``, both networks take labels as a second argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pygan._validation import check_int

__all__ = [
    "ARCHITECTURES",
    "ConditionalGenerator",
    "ProjectionDiscriminator",
    "dcgan",
    "fitting_side",
    "halvings",
    "mlp",
]

_LEAST, _MOST = 8, 256  # of an image's shorter side, in pixels


def mlp(
    shape: Sequence[int],
    *,
    latent: int,
    width: int = 128,
    depth: int = 2,
    batch_norm: bool = False,
    classes: int = 0,
) -> tuple[nn.Module, nn.Module]:
    """Perceptrons with `depth` hidden layers of `width` units each: ReLU in the generator, LeakyReLU(0.2) in the
    discriminator.

    Args:
        shape: shape of a sample: (d,) for points, (C, H, W) for images in [-1, 1] (the generator ends in tanh).
        latent: size of the latent.
        batch_norm: use BatchNorm in the generator's hidden layers.
        classes: of conditional networks, which get labels (N,) int64 from 0 to classes - 1 as well; 0: none.

    Returns:
        (generator, discriminator): (N, latent) to (N, *shape), and (N, *shape) to (N, 1).

    Raises:
        ValueError: a size that is not a positive int.
    """
    _check_sizes("mlp", shape, classes, latent=latent, width=width, depth=depth)
    size = math.prod(shape)

    def hidden(inputs: int, activation: nn.Module, norm: bool) -> list[nn.Module]:
        return [
            nn.Linear(inputs, width, bias=not norm),
            *([nn.BatchNorm1d(width)] if norm else []),
            activation,
        ]

    generator = hidden(latent * (2 if classes else 1), nn.ReLU(), batch_norm)
    discriminator = [nn.Flatten(), *hidden(size, nn.LeakyReLU(0.2), False)]
    for _ in range(depth - 1):
        generator += hidden(width, nn.ReLU(), batch_norm)
        discriminator += hidden(width, nn.LeakyReLU(0.2), False)
    generator.append(nn.Linear(width, size))
    if len(shape) > 1:
        generator += [nn.Tanh(), nn.Unflatten(1, tuple(shape))]
    discriminator.append(nn.Linear(width, 1))
    return _conditional(generator, discriminator, latent, width, classes)


def dcgan(
    shape: Sequence[int],
    *,
    latent: int,
    width: int = 64,
    batch_norm: bool = True,
    most: int = 512,
    hidden: int = 0,
    classes: int = 0,
) -> tuple[nn.Module, nn.Module]:
    """Convolutional networks in the style of DCGAN (Radford et al. 2016): strides instead of pooling, one layer per
    halving of the image down to 4 to 7 pixels. The discriminator has no BatchNorm, which does not work well with
    gradient penalties and noise.

    Args:
        shape: shape of a sample: (C, H, W), with values in [-1, 1]. The shorter side has 8 to 256 pixels, and both
            sides are multiples of 2 to the number of halvings, which is :func:`halvings` of the shorter side: 28 x 28,
            32 x 32, 48 x 64, 256 x 256.
        latent: size of the latent.
        width: channels of the layer next to the image; doubled at every halving, up to `most`.
        batch_norm: use BatchNorm in the generator.
        hidden: units of a fully connected layer after the latent, and of one before the logit, as in InfoGAN (Chen et
            al. 2016); 0: none. A convolution sees only a part of the image: without such a layer, the discriminator
            cannot compare distant parts of a small image, whose few halvings leave room for few convolutions.
        classes: of conditional networks, which get labels (N,) int64 from 0 to classes - 1 as well; 0: none.

    Returns:
        (generator, discriminator): (N, latent) to (N, C, H, W), and (N, C, H, W) to (N, 1).

    Raises:
        ValueError: an unsupported size.
    """
    _check_sizes("dcgan", shape, classes, latent=latent, width=width, most=most)
    check_int("dcgan", "hidden", hidden, 0)
    n = halvings(min(shape[1:])) if len(shape) == 3 else None
    if n is None or any(side % 2**n for side in shape[1:]):
        raise ValueError(
            f"dcgan: shape must be (C, H, W), with a shorter side from {_LEAST} to {_MOST} and both sides divisible "
            f"by 2 until the shorter one is 4 to 7 pixels, such as 28, 32, 48 or 64, got {tuple(shape)}"
        )
    widths = [min(width << i, max(width, most)) for i in range(n)]
    height, breadth = (side >> n for side in shape[1:])
    last = widths[-1] * height * breadth
    inputs = latent * (2 if classes else 1)

    def norm(channels: int) -> list[nn.Module]:
        return [nn.BatchNorm2d(channels)] if batch_norm else []

    def up(inputs: int, outputs: int) -> list[nn.Module]:
        layer = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=not batch_norm)
        return [layer, *norm(outputs), nn.ReLU()]

    generator: list[nn.Module] = [nn.Linear(inputs, hidden), nn.ReLU()] if hidden else []
    generator += [
        nn.Linear(hidden or inputs, last, bias=not batch_norm),
        nn.Unflatten(1, (widths[-1], height, breadth)),
        *norm(widths[-1]),
        nn.ReLU(),
    ]
    discriminator: list[nn.Module] = []
    for inner, outer in zip(widths[:0:-1], widths[-2::-1], strict=True):
        generator += up(inner, outer)
    generator += [nn.ConvTranspose2d(width, shape[0], 4, 2, 1), nn.Tanh()]
    for outer, inner in zip([shape[0], *widths], widths):
        discriminator += [nn.Conv2d(outer, inner, 4, 2, 1), nn.LeakyReLU(0.2)]
    discriminator.append(nn.Flatten())
    if hidden:
        discriminator += [nn.Linear(last, hidden), nn.LeakyReLU(0.2)]
    features = hidden or last
    discriminator.append(nn.Linear(features, 1))
    return _conditional(generator, discriminator, latent, features, classes)


ARCHITECTURES: dict[str, Callable[..., tuple[nn.Module, nn.Module]]] = {"mlp": mlp, "dcgan": dcgan}
"""The architectures by their names in a configuration."""


def halvings(side: int) -> int | None:
    """How often `dcgan` halves an image with that shorter side, to 4 to 7 pixels; None if it does not support the
    size."""
    return side.bit_length() - 3 if _LEAST <= side <= _MOST else None


def fitting_side(pixels: int) -> int:
    """The largest shorter side of at most that many pixels that `dcgan` supports; at least 8."""
    pixels = min(max(pixels, _LEAST), _MOST)
    n = halvings(pixels)
    assert n is not None
    return pixels >> n << n


class ConditionalGenerator(nn.Module):
    """A generator of latents (N, latent) and labels (N,) int64: the label's embedding is concatenated with the
    latent."""

    def __init__(self, layers: nn.Module, *, latent: int, classes: int) -> None:
        super().__init__()
        self.embedding, self.layers = nn.Embedding(classes, latent), layers

    def forward(self, latent: Tensor, labels: Tensor) -> Tensor:
        return self.layers(torch.cat([latent, self.embedding(labels).to(latent.dtype)], 1))


class ProjectionDiscriminator(nn.Module):
    """A discriminator of samples (N, ...) and labels (N,) int64: the logit of the sample plus the product of its
    features with an embedding of the label (Miyato and Koyama 2018)."""

    def __init__(self, features: nn.Module, output: nn.Module, *, size: int, classes: int) -> None:
        super().__init__()
        self.features, self.output = features, output
        self.embedding = nn.Embedding(classes, size)
        nn.init.normal_(self.embedding.weight, std=size**-0.5)

    def forward(self, samples: Tensor, labels: Tensor) -> Tensor:
        features = self.features(samples)
        projection = (self.embedding(labels) * features).sum(1, keepdim=True)
        return self.output(features) + projection


def _conditional(
    generator: list[nn.Module],
    discriminator: list[nn.Module],
    latent: int,
    features: int,
    classes: int,
) -> tuple[nn.Module, nn.Module]:
    """Build the networks from their layers; the discriminator's last layer takes `size` features."""
    if not classes:
        return nn.Sequential(*generator), nn.Sequential(*discriminator)
    *body, output = discriminator
    return (
        ConditionalGenerator(nn.Sequential(*generator), latent=latent, classes=classes),
        ProjectionDiscriminator(nn.Sequential(*body), output, size=features, classes=classes),
    )


def _check_sizes(name: str, shape: Sequence[int], classes: int, **sizes: int) -> None:
    for size in shape:
        check_int(name, "each size of shape", size)
    for argument, size in sizes.items():
        check_int(name, argument, size)
    check_int(name, "classes", classes, 0)
