"""examples/digits.py, run as a user runs it, but with few steps."""

import json
import subprocess
import sys

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
