"""precision_recall and coverage: how much of the generated is like the real, and of the real like the generated."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pygan._sample_matrix import matrix
from pygan._validation import check_int

__all__ = ["PrecisionRecall", "coverage", "precision_recall"]

_ROWS = 1024  # of the distances that are in memory at a time
_ROUNDING = 1e-13  # of a squared distance, relative to the squared lengths


class PrecisionRecall(NamedTuple):
    """What :func:`precision_recall` found."""

    precision: float
    """Share of the generated samples, 0 to 1, that lie in the real ones' manifold: their quality."""
    recall: float
    """Share of the real samples, 0 to 1, that lie in the generated ones' manifold: their variety."""


def precision_recall(real: Tensor, fake: Tensor, *, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019) of two sets of features.

    The manifold of a set is estimated by the balls around each of its features, with the distance to the k-th nearest
    other one as radius; the border belongs to a ball (their equations 1 to 3). Distances are Euclidean, in float64,
    and 0 below 3e-7 of the features' distance from the real ones' median. The time is that of n² + m² + 2 n m of them.

    Args:
        real, fake: features (n, d) and (m, d), any real dtype, more than k of each. The paper takes 50,000 of
            each; compare figures of equal n and m only.
        k: 3 in the paper.

    Raises:
        TypeError, ValueError: an argument that is not as described, or features that are not finite.
    """
    a, b = _matrices("precision_recall", real, fake, k, least_fake=k + 1)
    return PrecisionRecall(precision=_covered(b, a, k), recall=_covered(a, b, k))


def coverage(real: Tensor, fake: Tensor, *, k: int = 5) -> float:
    """Coverage (Naeem et al. 2020) of the real features by the generated ones.

    The share of the real features, 0 to 1, that have a generated one in the ball around them whose radius is the
    distance to the k-th nearest other real feature. Unlike recall, it does not rise with generated outliers. Distances
    and arguments are those of :func:`precision_recall`. Perfect samples, as many as the real ones, have an expectation
    of 1 - 2^-k, nearly.

    Args:
        real, fake: features (n, d) and (m, d), any real dtype, more than k real ones.
        k: 5 in the paper.

    Raises:
        TypeError, ValueError: an argument that is not as described, or features that are not finite.
    """
    a, b = _matrices("coverage", real, fake, k, least_fake=1)
    parts = zip(_parts(a), _parts(_radii(a, k)), strict=True)
    filled = sum(int((_squared(some, b) <= radii[:, None]).any(1).sum()) for some, radii in parts)
    return filled / len(a)


def _matrices(
    name: str, real: Tensor, fake: Tensor, k: int, *, least_fake: int
) -> tuple[Tensor, Tensor]:
    """The features after the checks."""
    check_int(name, "k", k)
    a = matrix(name, "real", real, rows=k + 1, finite=True)
    b = matrix(name, "fake", fake, rows=least_fake, columns=a.shape[1], finite=True)
    middle = a.median(0).values  # where the cancellation is least; one outlier can move the mean
    return a - middle, b.to(a.device) - middle


def _covered(points: Tensor, centers: Tensor, k: int) -> float:
    """The share of the points that lie in a ball around one of the centers."""
    radii = _radii(centers, k)
    inside = sum(int((_squared(some, centers) <= radii).any(1).sum()) for some in _parts(points))
    return inside / len(points)


def _radii(centers: Tensor, k: int) -> Tensor:
    """The squares of the radii of the balls around the centers."""
    # The nearest of its own set is the center itself, or one equal to it.
    return torch.cat(
        [_squared(some, centers).kthvalue(k + 1, dim=1).values for some in _parts(centers)]
    )


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """The squares of the distances; 0 of what differs by rounding alone."""
    # By a matrix product: the differences take ten times as long.
    sizes = a.square().sum(1, keepdim=True) + b.square().sum(1)
    squares = torch.addmm(sizes, a, b.T, alpha=-2)
    return squares.where(squares > _ROUNDING * sizes, 0.0)


def _parts(matrix: Tensor) -> list[Tensor]:
    return [matrix[i : i + _ROWS] for i in range(0, len(matrix), _ROWS)]
