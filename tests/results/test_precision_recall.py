"""pygan.metrics.precision_recall against the paper's definition, computed in loops over the samples."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pygan import metrics
from pygan.metrics import coverage, precision_recall


def normals(n, d, seed, shift=0.0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) * scale + shift


def by_definition(real, fake, k):
    """Equations 1 to 3: f(phi, Phi) is 1 if ||phi - phi'|| <= ||phi' - NN_k(phi', Phi)|| for a phi' in Phi."""

    def realism(points, centers):
        radii = []
        for i, center in enumerate(centers):
            others = [math.dist(center, x) for j, x in enumerate(centers) if j != i]
            radii.append(sorted(others)[k - 1])
        inside = [
            any(math.dist(x, c) <= r for c, r in zip(centers, radii, strict=True)) for x in points
        ]
        return sum(inside) / len(points)

    real, fake = real.tolist(), fake.tolist()
    return realism(fake, real), realism(real, fake)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    k=st.integers(1, 4),
    n=st.integers(5, 40),
    m=st.integers(5, 40),
    d=st.integers(1, 6),
    scale=st.floats(0.1, 3),
    far=st.sampled_from([0.0, 1e5]),
)
def test_precision_and_recall_equal_their_definition(seed, k, n, m, d, scale, far):
    real = normals(n, d, seed, far)
    fake = normals(m, d, seed + 1, far + 0.5, scale)
    assert precision_recall(real, fake, k=k) == by_definition(real, fake, k)


def test_copies_of_the_training_set_are_perfect_and_one_copy_is_collapse():
    real = normals(60, 8, 0, 3.0)
    assert precision_recall(real, real[torch.randperm(60)]) == (1.0, 1.0)
    one = real[:1].expand(60, 8)
    assert precision_recall(real, one) == (1.0, 1 / 60)
    # All radii are zero: a ball contains only its center.
    twice = torch.cat([one, one + 1])
    assert precision_recall(twice, one) == (1.0, 0.5)
    assert precision_recall(real, real + 100) == (0.0, 0.0)


def test_precision_measures_quality_and_recall_diversity():
    real = normals(500, 2, 0)
    narrow, wide = (precision_recall(real, normals(500, 2, 1, scale=s)) for s in (0.2, 4.0))
    assert narrow.precision > 0.95 > 0.4 > narrow.recall
    assert wide.recall > 0.9 > 0.4 > wide.precision


def test_chunks_do_not_change_the_result(monkeypatch):
    real, fake = normals(70, 3, 0), normals(50, 3, 1)
    whole, covered = precision_recall(real, fake), coverage(real, fake)
    for rows in (1, 7, 16, 23, 50):  # the last chunk has up to all of them, or a single one
        monkeypatch.setattr("pygan._precision_recall._CHUNK_ROWS", rows)
        assert precision_recall(real, fake) == whole and coverage(real, fake) == covered
    assert precision_recall(real.half(), fake.float()) == pytest.approx(whole, abs=0.1)
    assert [type(x) for x in whole] == [float, float]


def test_invalid_arguments_are_refused():
    real = normals(9, 3, 0)
    for pair, error, message in (
        ((real.numpy(), real), TypeError, "precision_recall: real must be a tensor"),
        ((real, real[:, :2]), ValueError, r"precision_recall: fake must be a real tensor \(n, 3\)"),
        ((real[:3], real), ValueError, r"real must hold at least 4 sample\(s\), got 3"),
        ((real, real * math.nan), ValueError, "precision_recall: fake must be finite"),
    ):
        with pytest.raises(error, match=message):
            precision_recall(*pair)
    with pytest.raises(ValueError, match="precision_recall: k must be an int"):
        precision_recall(real, real, k=0)
    assert "precision_recall" in metrics.__all__ and np.isfinite(precision_recall(real, real)).all()
