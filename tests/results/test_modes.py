"""benchmarks/modes.py: its configurations are valid for `pygan train`, and finished runs are not repeated."""

import json
import subprocess
import sys

import pytest
from helpers import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
sys.path.insert(0, str(ROOT / "tools" / "docs"))

import modes_page
import modes_settings

from pygan.training import config


@pytest.mark.parametrize("data", modes_settings.SETTINGS)
def test_configurations_are_valid(data, tmp_path):
    path = tmp_path / "run.toml"
    for variant in modes_settings.VARIANTS:
        if "labels" in variant and not data.startswith("mnist"):
            continue
        if variant.startswith("r3gan ") and "labels" not in variant and data != "mnist-options":
            continue
        for steps in (None, 100):
            path.write_text(modes_settings.configuration(data, variant, steps))
            taken = config.load(modes_settings.SETTINGS[data].data, path)
            assert steps is None or taken.train["steps"] == steps
            if variant == "recipe":
                continue
            assert ("noise" in variant or "adaptive" in variant) == (taken.schedule() is not None)
            penalties = [type(penalty).__name__ for penalty in taken.penalty_list()]
            only_r1 = "R1" in variant or not variant.startswith("r3gan")
            assert penalties == (["R1"] * variant.count("R1") if only_r1 else ["R1", "R2"])


def test_annealed_noise_ends_after_four_fifths_of_the_run(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(modes_settings.configuration("ring", "ns+noise", 1000))
    schedule = config.load("ring", path).schedule()
    assert schedule.value(0) == pytest.approx(0.3)
    assert schedule.value(799) > 0.003 and schedule.value(801) == pytest.approx(0.003)


def test_tables_use_only_runs_with_the_settings(monkeypatch, tmp_path):
    lines = [
        {
            "variant": "r3gan",
            "seed": 0,
            "steps": 10,
            "modes": 8.0,
            "reverse_kl": 0.25,
            "cpu_seconds": 3.0,
        },
        {
            "variant": "ns",
            "seed": 0,
            "steps": 10,
            "modes": 3.0,
            "reverse_kl": "Infinity",
            "cpu_seconds": 4.4,
        },
        {
            "variant": "r3gan",
            "seed": 1,
            "steps": 10,
            "modes": 6.0,
            "reverse_kl": 0.75,
            "cpu_seconds": 5.0,
        },
        {
            "variant": "r3gan",
            "seed": 2,
            "steps": 10,
            "set": ["data.scale=1"],
            "modes": 1.0,
            "cpu_seconds": 9.0,
        },
    ]
    monkeypatch.setattr(modes_page, "ROOT", tmp_path)
    (tmp_path / "benchmarks" / "modes").mkdir(parents=True)
    path = tmp_path / "benchmarks" / "modes" / "ring.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = modes_page.modes_table("ring").splitlines()
    assert rows[0] == "| ring | modes | reverse KL | steps | CPU seconds | seeds |"
    assert rows[-2:] == [
        "| ns | 3.0 | inf | 10 | 4 | 1 |",
        "| r3gan | 7.0 ± 1.4 | 0.500 ± 0.354 | 10 | 4 | 2 |",
    ]
    assert modes_page.modes_table("grid") == "Not run yet.\n"


@pytest.mark.slow
def test_finished_runs_are_not_repeated(tmp_path):
    out = tmp_path / "ring.jsonl"

    def modes(*more):
        command = [sys.executable, "benchmarks/modes.py", "--data", "ring", "--variants", "r3gan"]
        command += ["--steps", "4", "--out", out, "--pictures", tmp_path / "pictures", *more]
        done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in out.read_text().splitlines()]

    small = ["--set", "data.samples=200", "--set", "train.samples=4"]
    (row,) = modes("--seeds", "1", *small)
    assert (row["variant"], row["seed"], row["steps"], row["threads"]) == ("r3gan", 0, 4, 1)
    assert row["set"] == [small[1], small[3]] and [at["step"] for at in row["curve"]][-1] == 4
    assert row["seconds"] > 0 and row["cpu_seconds"] > 0
    assert {"torch", "commit", "modes", "reverse_kl", "high_quality"} <= set(row)
    assert (tmp_path / "pictures" / "ring" / "r3gan-0.png").is_file()
    rows = modes("--seeds", "2", *small)
    assert [r["seed"] for r in rows] == [0, 1] and rows[0] == row
