"""The features with which `pygan eval` compares samples: Inception's if installed, or features without a download."""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pygan.noise import instance_noise
from pygan.stream import NoiseStream
from pygan.training.extras import extra
from pygan.training.sample_grids import is_images

__all__ = ["CHOICES", "Features", "features"]

CHOICES = ("classifier", "inception", "random-conv", "values")
_LEAST = 16  # smallest shorter side, in pixels, for which random convolutions are more informative than the pixels
# torch-fidelity's weights, which torchmetrics uses too, with the first digits of their SHA-256.
_INCEPTION = ("weights-inception-2015-12-05-6726825d.pth", "6726825d")


class Features(NamedTuple):
    """A feature extractor."""

    name: str
    """A description for people."""
    compute: Callable[[Tensor], Tensor]
    """Function from samples (N, ...) to features (N, d) on the same device."""


def features(
    choice: str | None,
    shape: tuple[int, ...],
    device: torch.device,
    classifier: Callable[[Tensor], Tensor] | None = None,
) -> Features:
    """The feature extractor of this name; without a name, the best one available for samples of this shape.

    Args:
        classifier: the features of the data's classifier, if there is one.

    Raises:
        ValueError, ImportError: the features do not exist for these samples, or something is not installed.
    """
    if choice == "classifier" and classifier is None:
        raise ValueError(
            "--features classifier must be used with data of mnist or stacked-mnist, got data without a classifier"
        )
    if classifier is not None and choice in (None, "classifier"):
        return Features("the inputs of the last layer of a classifier of MNIST", classifier)
    images = len(shape) == 3 and is_images(torch.empty(1, *shape, device="meta"))
    if choice is None:
        if images and min(shape[1:]) >= 32 and _missing() is None:
            choice = "inception"
        else:
            choice = "random-conv" if images and min(shape[1:]) >= _LEAST else "values"
    if choice == "values":
        return Features(f"the {math.prod(shape)} values of each sample", _values)
    if not images or min(shape[1:]) < 8:
        raise ValueError(
            f"--features {choice} must be used with images of at least 8 x 8 pixels, got {shape}"
        )
    return _inception(device) if choice == "inception" else _random_convolutions(shape, device)


def _values(samples: Tensor) -> Tensor:
    return samples.flatten(1)


def _random_convolutions(shape: tuple[int, ...], device: torch.device) -> Features:
    """A small untrained network: the mean and standard deviation of each channel at each scale. Its weights come from a
    noise stream, so that they are the same on every machine."""
    weights: list[Tensor] = []
    channels, side = shape[0], min(shape[1:])
    while side >= 8:
        outputs = min(128, 32 << len(weights))
        weight = torch.zeros(outputs, channels, 4, 4)
        std = math.sqrt(2 / (channels * 16))
        stream = NoiseStream(0, step=len(weights))
        weights.append(instance_noise(weight, std, stream=stream).to(device))
        channels, side = outputs, side // 2

    def compute(samples: Tensor) -> Tensor:
        x, found = samples.float(), []
        for weight in weights:
            x = F.leaky_relu(F.conv2d(x, weight, stride=2, padding=1), 0.2)
            found += [x.mean((2, 3)), x.flatten(2).std(2, correction=0)]
        return torch.cat(found, 1)

    size = 2 * sum(len(weight) for weight in weights)
    return Features(f"{size} of convolutions with random weights (not an FID)", compute)


def _inception(device: torch.device) -> Features:
    missing = _missing()
    if missing is not None:
        raise ImportError(f"--features inception needs {missing}")
    module = extra("torch_fidelity.feature_extractor_inceptionv3", "--features inception", "eval")
    network = module.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(_weights())
    ).to(device)

    def compute(samples: Tensor) -> Tensor:
        pixels = samples.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
        found: Tensor = network(pixels.expand(-1, 3, -1, -1))[0]
        return found

    return Features("2048 of Inception-v3, as the FID takes them (torch-fidelity)", compute)


def _weights() -> Path:
    """The path of the weights in torch.hub's cache, to which torchmetrics and torch-fidelity download them."""
    return Path(torch.hub.get_dir(), "checkpoints", _INCEPTION[0])


def _missing() -> str | None:
    """What is missing for Inception's features, if anything. Nothing is downloaded."""
    path = _weights()
    if importlib.util.find_spec("torch_fidelity") is None:
        return (
            f'torch-fidelity (pip install ".[eval]" in a checkout of pygan) and its weights, {path}'
        )
    if not path.is_file():
        return (
            f"the weights {path}, which pygan does not download; torch-fidelity and torchmetrics' "
            "FrechetInceptionDistance do when they are used"
        )
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(_INCEPTION[1]):
        return f"whole weights, got a file that is damaged or another: {path}"
    return None
