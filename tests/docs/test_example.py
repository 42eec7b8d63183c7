"""examples/digits.py, run as a user runs it, but with few steps."""

import json
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT

SCRIPT = ROOT / "examples" / "digits.py"
FILES = ["curves.png", "metrics.jsonl", "samples.png", "summary.json"]


def run(out, seed):
    command = [sys.executable, SCRIPT, "--steps", "60", "--seed", str(seed), "--out", out]
    # Every user of the demo would see a warning.
    command[1:1] = ["-W", "error::UserWarning", "-W", "error::FutureWarning"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_same_seed_writes_the_same_files(tmp_path):
    for package in ("matplotlib", "sklearn", "tqdm"):
        pytest.importorskip(package)
    printed = run(tmp_path / "a", seed=1)
    run(tmp_path / "b", seed=1)
    read = {out: [(tmp_path / out / name).read_bytes() for name in FILES] for out in "ab"}
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == FILES
    assert read["a"] == read["b"]

    summary = json.loads(read["a"][3])
    assert "of 10 classes among 1,000 samples" in printed
    assert sum(summary["counts"]) == 1000
    assert summary["real_accuracy"] > 0.95
    assert summary["scrambled_sure"] < 0.05 < 0.7 < summary["real_sure"]
    metrics = [json.loads(line) for line in read["a"][1].splitlines()]
    assert [row["step"] for row in metrics] == [25, 50, 60]
    assert metrics[0]["sigma"] > metrics[1]["sigma"] >= metrics[2]["sigma"] == pytest.approx(0.05)


def test_frames_of_the_picture_are_equally_large(tmp_path, monkeypatch):
    """Also those of classes that the samples lack."""
    figure = pytest.importorskip("matplotlib.figure")
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import digits

    drawn = []
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, *_, **__: drawn.append(self))
    digits.draw_samples("", np.zeros((20, 64)), np.arange(20) % 10, np.zeros((1, 64)), np.zeros(1))
    for axes in drawn[0].axes:
        axes.apply_aspect()
    assert len({tuple(np.round(axes.get_position().size, 6)) for axes in drawn[0].axes}) == 1
