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
    classes: int = 0,
) -> tuple[nn.Module, nn.Module]:
    """Convolutional networks in the style of DCGAN (Radford et al. 2016): strides instead of pooling, one layer per
    halving of the image until its shorter side has 3 or 4 pixels. The discriminator has no BatchNorm, which does not
    work well with gradient penalties and noise.

    Args:
        shape: shape of a sample: (C, H, W), with values in [-1, 1]. The shorter side has 8 to 256 pixels. Half of an
            odd side is rounded up, and the kernel's side is 3 instead of 4: 28 pixels become 14, 7 and 4.
        latent: size of the latent.
        width: channels of the layer next to the image; doubled at every halving, up to `most`.
        batch_norm: use BatchNorm in the generator.
        classes: of conditional networks, which get labels (N,) int64 from 0 to classes - 1 as well; 0: none.

    Returns:
        (generator, discriminator): (N, latent) to (N, C, H, W), and (N, C, H, W) to (N, 1).

    Raises:
        ValueError: an unsupported size.
    """
    _check_sizes("dcgan", shape, classes, latent=latent, width=width, most=most)
    if len(shape) != 3 or not _LEAST <= min(shape[1:]) <= _MOST:
        raise ValueError(
            f"dcgan: shape must be (C, H, W), with a shorter side from {_LEAST} to {_MOST} pixels, got "
            f"{tuple(shape)}"
        )
    sides = [tuple(shape[1:])]
    while min(sides[-1]) > 4:
        sides.append(tuple(-(-side // 2) for side in sides[-1]))
    smallest = sides.pop()
    channels = [shape[0], *(min(width << i, max(width, most)) for i in range(len(sides)))]
    last = channels[-1] * math.prod(smallest)
    halvings = list(zip(sides, channels, channels[1:], strict=False))

    def kernel(sides: tuple[int, ...]) -> tuple[int, int]:
        height, breadth = (4 - side % 2 for side in sides)
        return height, breadth

    discriminator: list[nn.Module] = []
    for size, outer, inner in halvings:
        discriminator += [nn.Conv2d(outer, inner, kernel(size), 2, 1), nn.LeakyReLU(0.2)]
    discriminator += [nn.Flatten(), nn.Linear(last, 1)]
    generator: list[nn.Module] = [
        nn.Linear(latent * (2 if classes else 1), last, bias=not batch_norm),
        nn.Unflatten(1, (channels[-1], *smallest)),
    ]
    for size, outer, inner in reversed(halvings):
        bias = size == sides[0] or not batch_norm
        generator += [
            *([nn.BatchNorm2d(inner)] if batch_norm else []),
            nn.ReLU(),
            nn.ConvTranspose2d(inner, outer, kernel(size), 2, 1, bias=bias),
        ]
    generator.append(nn.Tanh())
    return _conditional(generator, discriminator, latent, last, classes)


ARCHITECTURES: dict[str, Callable[..., tuple[nn.Module, nn.Module]]] = {"mlp": mlp, "dcgan": dcgan}
"""The architectures by their names in a configuration."""


def fitting_side(pixels: int) -> int:
    """The largest multiple of 4 of at most that many pixels that `dcgan` supports as the shorter side; at least 8.

    The layers next to the image then have kernels of size 4, whose windows overlap evenly at stride 2.
    """
    return min(max(pixels, _LEAST), _MOST) // 4 * 4


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
    """Build the networks from their layers; `features` is the input size of the discriminator's last layer."""
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
