"""`pygan eval` on two-step runs: the compared data, the features, and the output."""

import json
from types import SimpleNamespace

import pytest
import torch
from helpers.fit import Items
from helpers.result import command, conditional, pictures, trained
from torch import nn

import pygan
from pygan import datasets, metrics
from pygan.result import arguments, evaluate
from pygan.result import features as by


def test_points_are_evaluated_by_their_modes(runs, tmp_path, capsys):
    out = tmp_path / "scores.json"
    assert command("eval", runs / "grid", "--n", 300, "--seed", 2, "--out", out) == 0
    found = json.loads(out.read_text())
    samples = pygan.load_generator(runs / "grid").sample(2500, seed=2)
    expected = metrics.mode_coverage(samples, datasets.GRID)
    assert (found["modes"], found["high_quality"]) == (expected.modes, expected.high_quality)
    generator = torch.Generator().manual_seed(2)
    reals = datasets.grid(500, generator=generator)
    torch.manual_seed(2)
    order = torch.randperm(500)[:300]
    distance = metrics.frechet_distance(reals[order], samples[:300])
    assert found["frechet_distance"] == pytest.approx(distance, rel=1e-4)
    precision, recall = metrics.precision_recall(reals[order], samples[:300])
    assert (found["precision"], found["recall"]) == pytest.approx((precision, recall), abs=0.01)
    assert (found["n"], found["n_real"], found["data"], found["step"]) == (300, 300, "grid", 2)
    shown = capsys.readouterr().out
    assert "features: the 2 values of each sample" in shown
    assert f"  frechet_distance  {distance:.4g}" in shown
    assert command("eval", runs / "grid", "--out", out) == 2  # the file exists
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["pair", "dataset"])
def test_classes_are_generated_with_the_frequencies_of_the_data(form, monkeypatch, capsys):
    labels = torch.tensor([0] * 8 + [1, 2])
    images = (labels / 10).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    items = list(zip(images, labels.tolist(), strict=True))
    data = (images, labels) if form == "pair" else Items(items)
    made = SimpleNamespace(data=data, shape=(1, 8, 8), protocol=None, features=None)
    generator = conditional(["cat", "dog", "owl"])
    generator.config["data"] = {"name": "digits"}
    monkeypatch.setattr(arguments, "load_generator", lambda *_, **__: generator)
    monkeypatch.setattr(evaluate, "source", lambda *_: made)
    assert command("eval", "none.pt", "--n", 20) == 0
    numbers = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines()[2:])
    # The covariances divide by n - 1, for 10 and for 20 samples.
    assert float(numbers["frechet_distance"]) < 1e-3
    assert float(numbers["precision"]) == float(numbers["recall"]) == 1.0


def test_the_data_compared_with_themselves_are_perfect(runs, capsys, monkeypatch):
    """Data samples replace the generator's: the distance between two samples of the data is close to 0."""
    digits = datasets.digits()[0]

    def batches(self, n, *_):
        yield digits.flip(0)[:n]

    monkeypatch.setattr(pygan.TrainedGenerator, "batches", batches)
    assert command("eval", runs / "digits") == 0
    numbers = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines()[2:])
    assert float(numbers["frechet_distance"]) < 1e-9
    assert float(numbers["precision"]) == float(numbers["recall"]) == 1.0


def test_pictures_are_compared_with_a_folder(photos, tmp_path, capsys):
    run, folder = photos
    assert command("eval", run) == 0
    shown = capsys.readouterr().out
    assert f"12 samples, seed 0, against 12 of {folder}" in shown
    assert "features: 192 of convolutions with random weights (not an FID)" in shown
    other = pictures(tmp_path / "other", 6, 20)
    assert command("eval", run, "--data", other, "--n", 9, "--features", "values") == 0
    shown = capsys.readouterr().out
    assert f"9 samples, seed 0, against 6 of {other}" in shown and "the 768 values" in shown
    assert command("eval", run, "--data", "digits") == 2  # which have no size, channels, ...
    must = "--data must have samples of the run's shape, (3, 16, 16), got (1, 8, 8)"
    assert must in capsys.readouterr().err
    assert command("eval", run, "--n", 3) == 2
    assert "must be at least 6, got 3" in capsys.readouterr().err


def test_moved_data_must_be_specified(tmp_path, capsys):
    from PIL import Image

    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(6):
        Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(folder / f"{i}.png")
    trained(folder, tmp_path / "run", "data.size=8", "train.workers=0", "train.batch_size=2")
    moved = folder.rename(tmp_path / "moved")
    capsys.readouterr()
    assert command("eval", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert error.startswith("pygan eval: --data must be a data set (ring, grid, digits, ")
    assert f"got '{folder}'" in error
    assert command("eval", tmp_path / "run", "--data", moved) == 0


def test_random_convolutions_are_informative_and_reproducible():
    found = by.features("random-conv", (3, 16, 16), torch.device("cpu"))
    torch.manual_seed(5)
    noise = torch.rand(400, 3, 16, 16) * 2 - 1
    again = by.features("random-conv", (3, 16, 16), torch.device("cpu"))
    torch.testing.assert_close(found.compute(noise), again.compute(noise), rtol=0, atol=0)
    blurred = nn.functional.avg_pool2d(noise, 3, 1, 1)
    a, b, other = (found.compute(x) for x in (noise[:200], noise[200:], blurred[200:]))
    assert metrics.frechet_distance(a, other) > 5 * metrics.frechet_distance(a, b)


def test_inception_is_used_if_installed_and_otherwise_named(tmp_path, monkeypatch, photos, capsys):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert command("eval", photos[0], "--features", "inception") == 2
    error = capsys.readouterr().err
    assert "pygan eval: --features inception needs " in error
    assert str(tmp_path / "checkpoints/weights-inception-2015-12-05-6726825d.pth") in error
    assert by.features(None, (3, 64, 64), torch.device("cpu")).name.startswith("704 of conv")
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    monkeypatch.setattr(
        fidelity.FeatureExtractorInceptionV3, "load_state_dict", lambda *_, **__: None
    )
    path = tmp_path / "checkpoints" / by._INCEPTION[0]
    path.parent.mkdir()
    torch.save({}, path)
    assert "got a file that is damaged" in by._missing()
    monkeypatch.setattr(by, "_INCEPTION", (path.name, ""))
    found = by.features(None, (1, 32, 32), torch.device("cpu"))
    assert found.name.startswith("2048 of Inception-v3")
    assert found.compute(torch.zeros(2, 1, 32, 32)).shape == (2, 2048)


@pytest.mark.slow
def test_stacked_digits_are_evaluated_by_their_modes(tmp_path):
    trained("stacked-digits", tmp_path / "run", "data.samples=500")
    assert command("eval", tmp_path / "run", "--n", 100, "--out", tmp_path / "x.json") == 0
    found = json.loads((tmp_path / "x.json").read_text())
    assert {"modes", "reverse_kl", "sure", "precision"} <= set(found)
