"""How good generated samples are: modes counted by the published protocols, and the Fréchet distance, precision, recall
and coverage of features.

    pygan.metrics.mode_coverage(points, pygan.datasets.RING)        # (modes, high_quality, reverse_kl)
    pygan.metrics.StackedDigits()(trainer.sample(26_000))           # (modes, reverse_kl, sure)
    pygan.metrics.frechet_distance(real_features, fake_features)
    pygan.metrics.precision_recall(real_features, fake_features)    # (precision, recall)
    pygan.metrics.coverage(real_features, fake_features)

All return plain numbers and wait for the device. Divergences are in nats.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pygan._histogram import kl_from_uniform
from pygan._mnist_classifier import MNISTClassifier
from pygan._precision_recall import PrecisionRecall, coverage, precision_recall
from pygan._sample_matrix import matrix
from pygan._stacked_coverage import StackedCoverage, StackedDigits, StackedMNIST
from pygan.datasets import Mixture

__all__ = [
    "MNISTClassifier",
    "ModeCoverage",
    "PrecisionRecall",
    "StackedCoverage",
    "StackedDigits",
    "StackedMNIST",
    "coverage",
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
        reverse_kl=kl_from_uniform(counts),
    )


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
        TypeError, ValueError: features of another shape, or non-finite ones.
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
    # The distance is not negative, but the rounded spread may be.
    return float(shift + spread.clamp_min(0))
