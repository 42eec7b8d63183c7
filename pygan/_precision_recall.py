"""precision_recall and coverage: the overlap of generated and real samples, measured in feature space."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pygan._sample_matrix import matrix
from pygan._validation import check_int

__all__ = ["PrecisionRecall", "coverage", "precision_recall"]

_CHUNK_ROWS = 1024  # rows of the distance matrix in memory at a time
_ROUNDING = 1e-13  # rounding error of a squared distance, relative to the squared norms


class PrecisionRecall(NamedTuple):
    """The result of :func:`precision_recall`."""

    precision: float
    """Share of the generated samples, 0 to 1, within the manifold of the real ones: their quality."""
    recall: float
    """Share of the real samples, 0 to 1, within the manifold of the generated ones: their diversity."""


def precision_recall(real: Tensor, fake: Tensor, *, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019) of two sets of features.

    The manifold of a set is estimated by balls around its features, whose radius is the distance to the k-th nearest
    other feature; the balls are closed (their equations 1 to 3). Distances are Euclidean, in float64, and 0 below 3e-7
    of the features' distance from the median of the real ones. n² + m² + 2 n m distances are computed.

    Args:
        real, fake: features (n, d) and (m, d), any real dtype, more than k of each. The paper uses 50,000 of each;
            compare only values for equal n and m.
        k: number of the neighbor that defines the radius; 3 in the paper.

    Raises:
        TypeError, ValueError: an invalid argument, or non-finite features.
    """
    a, b = _matrices("precision_recall", real, fake, k, least_fake=k + 1)
    return PrecisionRecall(precision=_covered(b, a, k), recall=_covered(a, b, k))


def coverage(real: Tensor, fake: Tensor, *, k: int = 5) -> float:
    """Coverage (Naeem et al. 2020) of the real features by the generated ones.

    The share of the real features, 0 to 1, for which a generated one lies in the ball around them whose radius is the
    distance to the k-th nearest other real feature. Unlike recall, it does not increase with generated outliers.
    Distances are those of :func:`precision_recall`. Perfect samples, as many as real ones, have an expected coverage of
    about 1 - 2^-k.

    Args:
        real, fake: features (n, d) and (m, d), any real dtype, more than k real ones.
        k: number of the neighbor that defines the radius; 5 in the paper.

    Raises:
        TypeError, ValueError: an invalid argument, or non-finite features.
    """
    a, b = _matrices("coverage", real, fake, k, least_fake=1)
    parts = zip(_chunks(a), _chunks(_radii(a, k)), strict=True)
    filled = sum(
        int((_squared_distances(chunk, b) <= radii[:, None]).any(1).sum()) for chunk, radii in parts
    )
    return filled / len(a)


def _matrices(
    name: str, real: Tensor, fake: Tensor, k: int, *, least_fake: int
) -> tuple[Tensor, Tensor]:
    """The checked and centered features."""
    check_int(name, "k", k)
    a = matrix(name, "real", real, rows=k + 1, finite=True)
    b = matrix(name, "fake", fake, rows=least_fake, columns=a.shape[1], finite=True)
    center = a.median(0).values  # least cancellation; the mean could be moved by one outlier
    return a - center, b.to(a.device) - center


def _covered(points: Tensor, centers: Tensor, k: int) -> float:
    """The share of the points within a ball around one of the centers."""
    radii = _radii(centers, k)
    inside = sum(
        int((_squared_distances(chunk, centers) <= radii).any(1).sum()) for chunk in _chunks(points)
    )
    return inside / len(points)


def _radii(centers: Tensor, k: int) -> Tensor:
    """The squared radii of the balls around the centers."""
    # k + 1, because the nearest point of the set is the center itself, or an equal one.
    return torch.cat(
        [
            _squared_distances(chunk, centers).kthvalue(k + 1, dim=1).values
            for chunk in _chunks(centers)
        ]
    )


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """The squared distances; 0 for points that differ only by rounding."""
    # With a matrix product, because computing differences takes ten times as long.
    sizes = a.square().sum(1, keepdim=True) + b.square().sum(1)
    squares = torch.addmm(sizes, a, b.T, alpha=-2)
    return squares.where(squares > _ROUNDING * sizes, 0.0)


def _chunks(matrix: Tensor) -> list[Tensor]:
    return [matrix[i : i + _CHUNK_ROWS] for i in range(0, len(matrix), _CHUNK_ROWS)]
