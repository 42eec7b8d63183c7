"""How good generated samples are: modes counted by the published protocols, and the Fréchet distance, precision and
recall of features.

    pygan.metrics.mode_coverage(points, pygan.datasets.RING)        # (modes, high_quality, reverse_kl)
    pygan.metrics.StackedDigits()(trainer.sample(26_000))           # (modes, reverse_kl, sure)
    pygan.metrics.frechet_distance(real_features, fake_features)
    pygan.metrics.precision_recall(real_features, fake_features)    # (precision, recall)

All return plain numbers and wait for the device. Divergences are in nats.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pygan._feature_matrix import matrix
from pygan._precision_recall import PrecisionRecall, precision_recall
from pygan.datasets import Mixture, digits

__all__ = [
    "ModeCoverage",
    "PrecisionRecall",
    "StackedCoverage",
    "StackedDigits",
    "frechet_distance",
    "mode_coverage",
    "precision_recall",
]


class ModeCoverage(NamedTuple):
    """What :func:`mode_coverage` found."""

    modes: int
    """Modes with at least one high-quality sample."""
    high_quality: float
    """Share of the samples, 0 to 1, within three standard deviations of their nearest mode."""
    reverse_kl: float
    """KL of the high-quality samples' histogram over the modes from the uniform one, in nats; 0 is even."""


def mode_coverage(samples: Tensor, mixture: Mixture) -> ModeCoverage:
    """Count the modes of a mixture that samples cover, by the protocol of VEEGAN and PacGAN's table 1.

    A sample belongs to the mode nearest to it, and "we count a sample as high quality, if it is within three standard
    deviations of the nearest mode"; "the number of modes captured [is] the number of mixture components whose mean is
    nearest to at least one high quality sample" (Srivastava et al. 2017). The distance is the Euclidean one over the
    standard deviation, so of the mixture's own samples in two dimensions exp(-4.5) = 1.1 % are not of high quality.
    The reverse KL is ``sum_i p_i log(p_i k)`` with p_i the share of mode i of k among the *high-quality* samples: the
    released code of PacGAN (Lin et al. 2018, ``MetricLogger``) leaves the others out of the histogram, and they form
    no mode of their own. Published numbers are of 2,500 samples; of n perfect ones it has the mean (k - 1) / 2n.

    Args:
        samples: (n, d), any real dtype. Those that are not finite are of low quality.
        mixture: of k modes in d dimensions, such as :data:`pygan.datasets.RING`.

    Returns:
        :class:`ModeCoverage`; reverse_kl is infinite where no sample is of high quality.

    Raises:
        TypeError, ValueError: an argument that is not as described.
    """
    if not isinstance(mixture, Mixture):
        raise TypeError(
            f"mode_coverage: mixture must be a pygan.datasets.Mixture, got {type(mixture).__name__}"
        )
    k, d = mixture.centers.shape
    points = matrix("mode_coverage", "samples", samples, rows=1, columns=d)
    # Differences, not the quadratic expansion: at the ring's std of .01 that would cost half the digits.
    offsets = points[:, None] - mixture.centers.to(points)
    distances, nearest = offsets.square().sum(2).sqrt().min(1)
    counts = torch.bincount(nearest[distances < 3 * mixture.std], minlength=k)
    return ModeCoverage(
        modes=int((counts > 0).sum()),
        high_quality=float(counts.sum()) / len(points),
        reverse_kl=_kl_from_uniform(counts),
    )


class StackedCoverage(NamedTuple):
    """What :class:`StackedDigits` found."""

    modes: int
    """Classes, of 1,000, that at least one sample is put into."""
    reverse_kl: float
    """KL of the samples' histogram over the classes from the uniform one, in nats."""
    sure: float
    """Share of the samples, 0 to 1, of all three of whose digits the classifier is sure (p > 0.9)."""


class StackedDigits:
    """The judge of Stacked-Digits-1000: a classifier of 8 x 8 digits, which scikit-learn trains in seconds.

        judge = pygan.metrics.StackedDigits()
        print(judge(trainer.sample(26_000)))

    The protocol is Stacked MNIST's (Srivastava et al. 2017; Lin et al. 2018): 26,000 samples, each channel classified
    by itself, a mode is a class from 000 to 999 with at least one sample, and the KL is that of their histogram from
    the uniform one. 26,000 perfect samples have all 1,000 modes and a KL of about .02. Modes and KL do not see
    quality: noise has many classes too. `sure` does, which is no part of that protocol; see :attr:`real_sure`.

    The classifier is logistic regression on a radial-kernel feature map, so that it is unsure of what is far from all
    digits; it is fitted on all 1,797. (Fitted on one half, it is right on 97 % of the other.)
    """

    real_sure: float
    """Share of real stacked digits that the classifier is sure of: what `sure` is measured by."""

    def __init__(self) -> None:
        images, labels = digits()
        self._classifier = _digit_classifier().fit(images.flatten(1).numpy(), labels.numpy())
        sure = self._probabilities(images).max(1) > _SURE
        self.real_sure = float(sure.mean()) ** 3  # three independent digits

    def classify(self, samples: Tensor) -> Tensor:
        """The classes of samples (n, 3, 8, 8) in [-1, 1]: (n,) int64 from 0 to 999, red's digit the hundreds."""
        return self._judged("StackedDigits.classify", samples)[0]

    def __call__(self, samples: Tensor) -> StackedCoverage:
        """Judge samples (n, 3, 8, 8) in [-1, 1], of which published numbers take 26,000.

        Raises:
            TypeError, ValueError: samples of another shape, none, or such as are not finite.
        """
        classes, sure = self._judged("StackedDigits", samples)
        counts = torch.bincount(classes, minlength=1000)
        return StackedCoverage(
            modes=int((counts > 0).sum()), reverse_kl=_kl_from_uniform(counts), sure=sure
        )

    def _judged(self, name: str, samples: Tensor) -> tuple[Tensor, float]:
        if not isinstance(samples, Tensor) or samples.dim() != 4 or samples.shape[1:] != (3, 8, 8):
            got = tuple(samples.shape) if isinstance(samples, Tensor) else type(samples).__name__
            raise ValueError(f"{name}: samples must be a tensor (n, 3, 8, 8), got {got}")
        matrix(name, "samples", samples.flatten(1), rows=1, finite=True)
        probabilities = self._probabilities(samples.flatten(0, 1)).reshape(-1, 3, 10)
        classes = torch.from_numpy(probabilities.argmax(2)) @ torch.tensor([100, 10, 1])
        return classes, float((probabilities.max(2) > _SURE).all(1).mean())

    def _probabilities(self, images: Tensor) -> np.ndarray[Any, Any]:
        flat = images.detach().flatten(1).float().cpu().numpy()
        # In pieces: the kernel's features of 78,000 images at once take a quarter of a gigabyte.
        pieces = np.array_split(flat, math.ceil(len(flat) / 8192))
        return np.concatenate([self._classifier.predict_proba(piece) for piece in pieces])


_SURE = 0.9


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


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """The Fréchet distance between the Gaussians with the means and covariances of two sets of features.

    ``|mu_a - mu_b|² + tr(S_a + S_b - 2 (S_a S_b)^(1/2))``, the squared 2-Wasserstein distance of the two (Dowson and
    Landau 1982); of features of an Inception network it is the FID (Heusel et al. 2017). Computed in float64, and
    without a matrix square root, which is unstable where covariances do not have full rank (fewer samples than
    dimensions): with S = R^T R from a QR decomposition of the centered features, the trace of the root is the sum of
    the singular values of ``R_a R_b^T``.

    Args:
        a, b: features (n, d) and (m, d), any real dtype, n and m at least 2; the estimate is biased upwards by about
            1 / n, so compare figures of one n only. Covariances are the unbiased ones (over n - 1), as in the FID.

    Raises:
        TypeError, ValueError: features of another shape, or such as are not finite.
    """
    first = matrix("frechet_distance", "a", a, rows=2, finite=True)
    second = matrix("frechet_distance", "b", b, rows=2, columns=first.shape[1], finite=True)
    second = second.to(first.device)
    roots = [
        torch.linalg.qr((x - x.mean(0)) / math.sqrt(len(x) - 1), mode="r").R
        for x in (first, second)
    ]
    cross = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    spread = roots[0].square().sum() + roots[1].square().sum() - 2 * cross
    shift = (first.mean(0) - second.mean(0)).square().sum()
    # The distance is not negative, the rounding of the spread may be.
    return float(shift + spread.clamp_min(0))


def _kl_from_uniform(counts: Tensor) -> float:
    """KL(counts / their sum || uniform) in nats, infinite where nothing was counted."""
    shares = counts[counts > 0].double() / counts.sum()
    if not len(shares):
        return math.inf
    # max: of even counts the rounding may be negative, the divergence is not.
    return max(0.0, float((shares * (shares * len(counts)).log()).sum()))
