"""MNISTClassifier: a small convolutional network that classifies digits, trained once and cached."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygan._mnist import mnist
from pygan._validation import check_values

__all__ = ["MNISTClassifier"]

_RECIPE = (
    1  # incremented when the training below changes, so that older cached networks are not used
)
_STEPS, _BATCH, _RATE = 1500, 64, 4e-3
_CHUNK = 256  # images per forward pass; larger chunks do not fit into the CPU caches


class MNISTClassifier:
    """A classifier of MNIST's digits, with features for comparing generated digits with real ones, as in
    ``frechet_distance(classifier.features(real), classifier.features(generated))``.

    Three convolutions and a layer of 64 features, trained on :func:`pygan.datasets.mnist` with slightly rotated,
    sheared, scaled and shifted digits. Training takes about 20 seconds on one CPU core; the network is then cached in
    ``torch.hub.get_dir()/pygan``. It runs on the CPU.

    Args:
        root: the folder with the digits, see :func:`pygan.datasets.mnist`.

    Raises:
        ImportError, FileNotFoundError, ValueError: see :func:`pygan.datasets.mnist`.
    """

    accuracy: float
    """Accuracy on the held-out digits."""

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        images, labels = mnist(root)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network: Any = _network()  # memory_format has no annotation in some versions of torch
            self._network = network.to(memory_format=torch.channels_last)  # twice as fast
            path = _cached(images, labels)
            try:
                self._network.load_state_dict(torch.load(path, weights_only=True))
            # Missing or damaged.
            except (
                OSError,
                EOFError,
                RuntimeError,
                UnpicklingError,
            ):
                _train(self._network, images, labels)
                _save(self._network, path)
        self._network.eval()
        held_out, its_labels = mnist(root, train=False)
        read = self.probabilities(held_out).argmax(1)
        self.accuracy = float((read == its_labels).double().mean())

    def probabilities(self, images: Tensor) -> Tensor:
        """Probabilities of the ten digits, (n, 10) float32, for images (n, 1, 28, 28) in [-1, 1]."""
        return self._read("probabilities", images, self._network).softmax(1)

    def features(self, images: Tensor) -> Tensor:
        """Input of the last layer, (n, 64) float32, for images (n, 1, 28, 28) in [-1, 1].

        Raises:
            ValueError: images of another shape.
        """
        return self._read("features", images, self._network[:-1])

    @torch.no_grad()
    def _read(self, name: str, images: Tensor, network: nn.Module) -> Tensor:
        if isinstance(images, Tensor):
            check_values(f"MNISTClassifier.{name}", "images", images)
        if not isinstance(images, Tensor) or images.dim() != 4 or images.shape[1:] != (1, 28, 28):
            got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(
                f"MNISTClassifier.{name}: images must be a tensor (n, 1, 28, 28), got {got}"
            )
        parts = [images[i : i + _CHUNK] for i in range(0, max(1, len(images)), _CHUNK)]
        return torch.cat([network(part.float().cpu()) for part in parts])


def _network() -> nn.Sequential:
    def layer(inputs: int, outputs: int, size: int, stride: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        *layer(1, 16, 5, 2),
        *layer(16, 32, 3, 1),
        nn.MaxPool2d(2),
        *layer(32, 64, 3, 1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(9 * 64, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def _train(network: nn.Sequential, images: Tensor, labels: Tensor) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=_STEPS)
    with torch.enable_grad():
        for _ in range(_STEPS):
            chosen = torch.randint(len(images), (_BATCH,))
            loss = F.cross_entropy(network(_augmented(images[chosen])), labels[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            decay.step()


def _augmented(images: Tensor) -> Tensor:
    """The images, each randomly rotated by up to 15 degrees, sheared, scaled by up to 10 % and shifted by up to two
    pixels."""
    turn, scale, shear, right, down = torch.rand(5, len(images)).mul(2).sub(1)
    turn, scale = 0.26 * turn, 1 + 0.1 * scale
    cosine, sine = turn.cos() * scale, turn.sin() * scale
    rows = torch.stack([cosine, -sine + 0.3 * shear, right / 7, sine, cosine, down / 7], 1)
    grid = F.affine_grid(rows.reshape(-1, 2, 3), list(images.shape), align_corners=False)
    # The area around the image is paper, -1.
    return F.grid_sample(images + 1, grid, align_corners=False) - 1


def _cached(images: Tensor, labels: Tensor) -> Path:
    """The path of the cached network for these digits."""
    of = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    return Path(torch.hub.get_dir(), "pygan", f"mnist-classifier-{_RECIPE}-{of[:16]}.pt")


def _save(network: nn.Module, path: Path) -> None:
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")  # another process may be training too
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), unfinished)
        os.replace(unfinished, path)
    except (
        OSError,
        RuntimeError,
    ) as error:  # torch raises RuntimeError for a folder that it cannot write to
        warnings.warn(
            f"MNISTClassifier: could not be cached, and will be trained again next time: {error}",
            stacklevel=3,
        )
