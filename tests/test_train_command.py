"""`pygan train`: runs of a few steps from the command line, their files, errors and resumption."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import DEVICES, accelerated_on

from pygan import __main__, checkpoint, datasets
from pygan.training.config import DataTable
from pygan.training.sources import scatter, source

TINY = ["--set", "model.width=4", "--set", "train.progress=false"]


def command(*arguments, device="cpu"):
    with accelerated_on(device):
        return __main__.main([str(a) for a in ("train", *TINY, *arguments)])


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("data", ["ring", "grid"])
def test_a_run_on_points(data, device, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--data", data, "--steps", 4, "--out", out, "--set", "data.samples=500"]
    assert command(*arguments, device=device) == 0
    last = lines(out)[-1]
    assert last["step"] == 4
    assert {"modes", "high_quality", "reverse_kl"} <= set(last)
    assert (out / "samples-00000004.png").exists()
    saved = checkpoint.load(checkpoint.latest(out / "checkpoints"))
    assert saved["config"]["data"]["name"] == data
    assert "4 steps done" in capsys.readouterr().out


def test_a_run_on_digits_and_its_resumption(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert command("--data", "digits", "--steps", 6, "--out", whole) == 0
    more = ["--set", "train.checkpoint_every=2"]
    assert command("--data", "digits", "--steps", 6, "--out", parts, *more) == 0
    for step in (4, 6):
        (parts / "checkpoints" / f"step-{step:08d}.pt").unlink()
    assert command("--data", "digits", "--steps", 6, "--out", parts, "--resume") == 0
    a, b = (checkpoint.load(checkpoint.latest(out / "checkpoints")) for out in (whole, parts))
    torch.testing.assert_close(a["trainer"], b["trainer"], rtol=0, atol=0)
    assert lines(whole) == lines(parts)


@pytest.mark.slow
def test_a_run_on_stacked_digits(tmp_path):
    out = tmp_path / "out"
    more = ["--set", "data.samples=2000"]
    assert command("--data", "stacked-digits", "--steps", 2, "--out", out, *more) == 0
    assert {"modes", "reverse_kl", "sure"} <= set(lines(out)[-1])


@pytest.mark.slow
def test_a_run_on_a_folder_of_images_in_worker_processes(tmp_path):
    from PIL import Image

    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    more = ["--set", "data.size=16", "--set", "train.batch_size=4", "--set", "train.workers=2"]
    assert command("--data", folder, "--steps", 4, "--out", out, *more) == 0
    with Image.open(out / "samples-00000004.png") as grid:
        assert grid.size == (2 + 8 * 18,) * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "rnig"], "[data] name must be ring, grid, digits, stacked-digits, or a folder"),
        ([], "--data or --config must be given"),
        (["--data", "ring", "--config", "none.toml"], "cannot read none.toml"),
        (["--data", "ring", "--set", "train.emma=1"], "did you mean ema?"),
        (
            ["--data", "ring", "--set", "train.batch_size=0"],
            "[train] batch_size must be at least 1, got 0",
        ),
        (
            ["--data", "ring", "--set", "train.batch_size=x"],
            "[train] batch_size must be an int, got 'x'",
        ),
        (["--data", "digits", "--set", "train.steps=x"], "[train] steps must be an int, got 'x'"),
        (
            ["--data", "ring", "--set", "train.log_every=x"],
            "[train] log_every must be an int, got 'x'",
        ),
        (
            ["--data", "ring", "--set", "train.ema=2"],
            "[train] ema must be a number, between 0 and 1",
        ),
        (["--data", "ring", "--resume", "none.pt"], "none.pt"),
    ],
)
def test_what_is_wrong_is_one_line_and_status_2(arguments, message, tmp_path, capsys):
    assert command(*arguments, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_with_a_run_is_not_overwritten(tmp_path, capsys):
    arguments = ["--data", "ring", "--steps", 2, "--out", tmp_path, "--set", "data.samples=200"]
    assert command(*arguments) == 0
    assert command(*arguments) == 2
    assert "resume" in capsys.readouterr().err


def test_the_configuration_can_be_shown_and_used(tmp_path, capsys):
    assert command("--data", "ring", "--print-config") == 0
    path = tmp_path / "run.toml"
    path.write_text(capsys.readouterr().out)
    assert command("--config", path, "--print-config") == 0
    assert capsys.readouterr().out == path.read_text()


def test_without_a_command_it_reports_the_build():
    run = subprocess.run(
        [sys.executable, "-m", "pygan"], capture_output=True, text=True, check=True
    )
    assert "cpu_capability" in run.stdout


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_points_are_judged_as_they_are_whatever_the_networks_see(name):
    plain, scaled = (
        source(DataTable(name=name, samples=5000, scale=s), seed=3) for s in (1.0, 0.5)
    )
    torch.testing.assert_close(scaled.data, plain.data / 2)
    for what in (plain, scaled):
        found = what.evaluate(lambda n, what=what: what.data[:n])
        assert found["modes"] == {"ring": 8, "grid": 25}[name]
        # exp(-4.5) of a Gaussian's samples lie beyond three standard deviations.
        assert found["high_quality"] == pytest.approx(1 - np.exp(-4.5), abs=0.01)
    pictures = [what.preview(what.data[:100]) for what in (plain, scaled)]
    np.testing.assert_array_equal(*pictures)


def test_the_picture_of_points():
    mixture = datasets.GRID
    picture = scatter(
        torch.tensor([[4.0, 2.0], [1.0, -1.0], [99.0, 0.0], [float("nan"), 0.0]]), mixture
    )
    assert picture.shape == (384, 384, 3)
    blue = np.argwhere((picture == (31, 119, 180)).all(2))
    assert len(blue) == 2 * 9
    middle = np.unique(blue, axis=0).reshape(2, 9, 2).mean(1)
    position = (middle[:, ::-1] / 383 * 2 - 1) * 5.0 * [1, -1]
    np.testing.assert_allclose(position, [[4.0, 2.0], [1.0, -1.0]], atol=5.0 / 383)
    gray = np.argwhere((picture == 200).all(2))
    assert len(gray) > 24 * 20
