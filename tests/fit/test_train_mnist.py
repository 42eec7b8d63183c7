"""`pygan train` and `pygan eval` on MNIST's digits: the training data, and the data for comparison."""

import json

import pytest
import torch

from pygan import datasets, metrics
from pygan.__main__ import main
from pygan.training.config import DataTable
from pygan.training.config_values import ConfigError
from pygan.training.sources import source


def command(*arguments):
    return main([*map(str, arguments)])


def last_line(out):
    rows = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if "modes" in row][-1]


SMALL = ["--steps", 2, "--set", "train.batch_size=4", "--set", "train.tensorboard=false"]
SMALL += ["--set", "model.width=4", "--set", "machine.threads=1"]
FEATURES = {"frechet_distance", "precision", "recall", "coverage"}


def test_a_run_on_mnist_with_labels(short_classifier, tmp_path, capsys):
    out = tmp_path / "out"
    more = ["--set", "data.labels=true", "--set", "data.samples=100"]
    assert command("train", "--data", "mnist", "--out", out, *SMALL, *more) == 0
    row = last_line(out)
    assert row["modes"] <= 10 and {"reverse_kl", "sure"} | FEATURES <= set(row)
    assert sum(row[f"share_{digit}"] for digit in range(10)) == pytest.approx(1)
    capsys.readouterr()
    assert command("eval", out, "--n", 50, "--out", tmp_path / "x.json") == 0
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["features"] == "the inputs of the last layer of a classifier of MNIST"
    assert FEATURES | {"modes"} <= set(found)
    assert command("eval", out, "--n", 50, "--features", "values") == 0


def test_missing_files_are_an_error_of_the_table(tmp_path, capsys):
    assert command("train", "--data", "mnist", "--set", f"data.root={tmp_path}", *SMALL) == 2
    error = capsys.readouterr().err
    assert error.startswith("pygan train: [data] mnist: root must be a folder with MNIST's files")


@pytest.mark.slow
def test_a_run_on_stacked_mnist(short_classifier, tmp_path):
    out = tmp_path / "out"
    more = ["--set", "data.samples=100"]
    assert command("train", "--data", "stacked-mnist", "--out", out, *SMALL, *more) == 0
    assert {"modes", "reverse_kl", "sure"} | FEATURES <= set(last_line(out))


def test_a_subset_of_mnist_is_compared_with_the_whole_set(short_classifier):
    what = source(DataTable("mnist", samples=60, labels=True), 3)
    images, labels = what.data
    assert images.shape == (60, 1, 28, 28) and what.real.shape == (4500, 1, 28, 28)
    known = {x.numpy().tobytes(): int(y) for x, y in zip(*datasets.mnist(), strict=True)}
    assert [known[x.numpy().tobytes()] for x in images] == labels.tolist()
    assert torch.equal(images, source(DataTable("mnist", samples=60), 3).data)
    assert not torch.equal(images, source(DataTable("mnist", samples=60), 4).data)
    # If the samples are the digits themselves, they are perfect.
    order = torch.randperm(4500, generator=torch.Generator().manual_seed(0))
    found = what.evaluate(lambda n: what.real[order])
    assert found["frechet_distance"] < 1e-3
    assert found["precision"] == found["recall"] == found["coverage"] == 1.0


def test_stacked_mnist_is_evaluated_by_its_classifier(short_classifier):
    what = source(DataTable("stacked-mnist", samples=40), 0)
    coverage, samples = metrics.StackedMNIST(), what.data.repeat(3, 1, 1, 1)
    found = what.evaluate(lambda n: samples)
    assert what.protocol_samples == 26_000
    assert found == {**coverage(samples)._asdict(), **{key: found[key] for key in FEATURES}}


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [("ring", "root", "x"), ("stacked-mnist", "labels", True), ("mnist", "scale", 2.0)],
)
def test_keys_of_other_data_are_refused(name, key, value):
    with pytest.raises(ConfigError, match=rf"\[data\] {key} has no effect on {name}"):
        DataTable(name, **{key: value})


def test_a_root_without_mnist_files_is_refused(tmp_path, capsys):
    arguments = ["--data", "mnist", "--set", f"data.root={tmp_path}", "--out", tmp_path / "out"]
    assert command("train", *arguments) == 2
    assert "mnist: root must be a folder with MNIST's files" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_classifier_features_need_its_data(runs, capsys):
    assert command("eval", runs / "digits", "--features", "classifier") == 2
    assert (
        "--features classifier must be used with data of mnist or stacked-mnist"
        in capsys.readouterr().err
    )
