"""The settings that `pygan train` chooses for a folder of images and a machine, and its messages."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import accelerated_on
from PIL import Image
from torch import nn

from pygan import __main__, checkpoint
from pygan.training import automatic_settings, config
from pygan.training.automatic_settings import item_size, threads
from pygan.training.config_tables import DataTable
from pygan.training.sources import source


@pytest.mark.parametrize(
    ("sizes", "largest", "expected"),
    [
        ([(64, 64)] * 5, 64, (64, 64)),
        ([(32, 32), (64, 64), (300, 200)], 256, (64, 64)),  # the median image
        ([(50, 50)] * 5, 64, (48, 48)),
        ([(5, 5)] * 5, 64, (8, 8)),
        ([(3000, 4000)] * 5, 64, (64, 84)),
        ([(3000, 4000)] * 5, 128, (128, 172)),
        ([(4000, 3000)] * 5, 64, (84, 64)),
        ([(3000, 4000), (4000, 3000)] * 5, 64, (64, 64)),  # both orientations: squares
        ([(300, 330)] * 5, 64, (64, 64)),
        ([(300, 600)] * 40 + [(600, 300)], 64, (64, 128)),  # a single outlier does not matter
    ],
)
def test_the_size_follows_the_images(sizes, largest, expected):
    assert item_size(sizes, largest) == expected


def test_more_threads_are_used_only_for_a_gain(monkeypatch):
    before = torch.get_num_threads()
    G, D = nn.Linear(2, 2), nn.Linear(2, 1)
    inputs = [torch.zeros(3, 2)], [torch.zeros(3, 2)]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    try:
        torch.set_num_threads(6)
        for seconds, expected in (
            ({1: 1.0, 2: 0.6, 4: 0.5, 6: 0.4}, 6),
            ({1: 1.0, 2: 0.9, 4: 0.1, 6: 0.1}, 1),  # two threads gain little
            ({1: 1.0, 2: 0.5, 4: 14.0, 6: 14.0}, 2),
        ):
            monkeypatch.setattr(
                automatic_settings, "_seconds", lambda *_, s=seconds: s[torch.get_num_threads()]
            )
            assert threads(G, D, *inputs) == expected and torch.get_num_threads() == 6
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert threads(G, D, *inputs) == 6  # torch's setting
    finally:
        torch.set_num_threads(before)


def test_timing_does_not_change_the_networks():
    G, D = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), nn.Linear(2, 1)
    before = [x.clone() for x in G.state_dict().values()]
    threads(G, D, [torch.randn(3, 2)], [torch.randn(3, 2)])
    assert all(torch.equal(a, b) for a, b in zip(before, G.state_dict().values(), strict=True))
    assert G.training and all(p.grad is None for p in [*G.parameters(), *D.parameters()])


def test_the_recipe_follows_the_machine(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cpu, ring = config.load("photos"), config.load("ring")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    gpu = config.load("photos")
    assert "mixed_precision" not in cpu.train and gpu.train["mixed_precision"] == "bf16"
    assert cpu.model["width"] < gpu.model["width"] and cpu.data.largest < gpu.data.largest
    assert cpu.machine.channels_last and gpu.machine.channels_last
    assert config.load("ring") == ring
    # A resumed run keeps its settings.
    assert config.load("photos", resumed=cpu.plain()) == cpu
    assert config.load("ring", resumed=cpu.plain()).model["architecture"] == "mlp"
    changed = config.load("photos", overrides={"train": {"ema": 0.5}}, resumed=cpu.plain())
    assert changed.train == {**cpu.train, "ema": 0.5} and changed.data == cpu.data


def photos(folder, n=12, size=(24, 16), mode="RGB"):
    """Pictures of two kinds."""
    rng = np.random.default_rng(0)
    for i in range(n):
        path = folder / ("a", "b")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(path)


TINY = ["--set", "model.width=2", "--set", "train.batch_size=4", "--set", "train.tensorboard=false"]


def train(*arguments):
    with accelerated_on("cpu"):
        return __main__.main([str(a) for a in ("train", *TINY, *arguments)])


def test_the_command_prints_what_it_trains_and_the_expected_time(tmp_path, capsys):
    photos(tmp_path / "photos")
    out = tmp_path / "out"
    (tmp_path / "photos" / "a" / "bad.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"skipping 1 .*bad\.png"):
        assert train("--data", tmp_path / "photos", "--steps", 21, "--out", out) == 0
    shown = capsys.readouterr()
    messages = shown.err.splitlines()
    assert re.search(
        r"12 images in .*photos, in 2 subfolders \(.*\); median size 16 x 24, training at 16 x 24 "
        r"\(--set data\.size=\.\.\. overrides\), RGB, on the CPU, \d+ threads?",
        messages[0],
    )
    pattern = r"a step takes .*s; 10 more take .*s; the next samples come at step 21, in .*s"
    assert any(re.search(pattern, line) for line in messages)
    assert re.search(r"^step 21/21 \(100%\)  D \S+  G \S+  \S+ steps/s  done$", shown.out, re.M)
    assert re.search(r"^21 steps done in .*s, \S+ steps/s$", shown.out, re.M)
    assert (out / "reals.png").exists() and (out / "samples-00000000.png").exists()
    with Image.open(out / "samples-00000021.png") as grid:
        assert grid.width >= 512
    saved = checkpoint.load(out / "checkpoints" / "step-00000021.pt")["config"]
    assert saved["data"]["size"] == [16, 24] and saved["data"]["channels"] == 3


def test_warnings_show_no_source(tmp_path):
    photos(tmp_path, 1)
    (tmp_path / "bad.png").write_bytes(b"no image")
    command = [sys.executable, "-m", "pygan", "train", "--data", tmp_path, "--steps", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2  # not a batch
    assert done.stderr.startswith(
        f"pygan: ImageFolder: using 1 image in {tmp_path}, skipping 1 file or folder that cannot be read: "
        f"{tmp_path}/bad.png: not an image of a known format\npygan train: 1 image in {tmp_path}; median size"
    )


def test_subfolders_that_may_be_classes_are_reported(tmp_path):
    def found(labels=False):
        return source(DataTable(name=str(tmp_path), size=8, labels=labels), seed=0).found

    photos(tmp_path)
    assert ", in 2 subfolders (--set data.labels=true makes them classes); " in found()
    assert ", in 2 classes; " in found(labels=True)
    Image.new("RGB", (24, 16)).save(tmp_path / "of no class.png")
    assert f"13 images in {tmp_path}" in found()


def test_a_resumed_run_keeps_automatic_settings_and_reports_changed_data(tmp_path, capsys):
    folder, out = tmp_path / "photos", tmp_path / "out"
    photos(folder, size=(16, 16), mode="L")
    (folder / "a").rename(folder / "c")
    constant = ["--set", "optimizer.decay_from=1"]
    labels = ["--set", "data.labels=true"]
    assert train("--data", folder, "--out", out, "--steps", 2, *constant, *labels) == 0
    assert ", in 2 classes; " in capsys.readouterr().err
    saved = checkpoint.load(checkpoint.latest(out / "checkpoints"))["config"]
    assert saved["classes"] == ["b", "c"]
    saved = saved["data"]
    assert (saved["size"], saved["channels"], saved["labels"]) == (16, 1, ["b", "c"])
    for i in range(14):  # more than half
        Image.new("RGB", (64, 48)).save(folder / "b" / f"new {i}.png")
    again = ["--data", folder, "--out", out, "--resume", "--steps", 3]
    assert train(*again, "--print-config") == 0  # with what was chosen: usable as a file
    (tmp_path / "run.toml").write_text(capsys.readouterr().out)
    assert train("--config", tmp_path / "run.toml", "--print-config") == 0
    assert capsys.readouterr().out == (tmp_path / "run.toml").read_text()
    assert train(*again) == 2
    assert "data must be that of the checkpoint" in capsys.readouterr().err
    assert train(*again, "--allow-changes") == 0
    assert "resumed at step 2 with data 26 samples instead of 12 samples" in capsys.readouterr().err
    now = checkpoint.load(checkpoint.latest(out / "checkpoints"))["config"]
    assert now["data"] == saved and now["optimizer"]["decay_from"] == 1


def test_digits_with_labels(tmp_path):
    out = tmp_path / "out"
    assert train("--data", "digits", "--set", "data.labels=true", "--steps", 2, "--out", out) == 0
    state = checkpoint.load(checkpoint.latest(out / "checkpoints"))
    assert state["trainer"]["generator"]["embedding.weight"].shape == (10, 32)
    assert state["grid"][1].tolist() == sorted(state["grid"][1].tolist())
    with Image.open(out / "samples-00000002.png") as grid:
        pixels = np.array(grid)[22:]
    assert pixels.shape[1] >= 512 and np.median(pixels) > 127  # mostly background


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("data.size=[8]", "[data] size must be a number or [height, width], got [8]"),
        ("data.size=[8, 0]", "[data] size must be from 1 to 4096, got 0"),
        ("data.largest=7", "[data] largest must be from 8 to 256, got 7"),
        ("data.channels=2", "[data] channels must be 1 or 3, got 2"),
        ("data.mirror=1", "[data] mirror must be true or false, got 1"),
        ("data.labels=1", "[data] labels must be true or false or a list, got 1"),
        ("machine.threads=0", "[machine] threads must be from 1 to 1024, got 0"),
        ("model.classes=3", "unknown key of [model]: 'classes'"),
    ],
)
def test_invalid_values_of_image_and_machine_keys_are_refused(given, message):
    overrides = {}
    config.override(overrides, given)
    with pytest.raises(config.ConfigError, match=re.escape(message)):
        config.load("photos", overrides=overrides)


def test_labels_of_points_and_lists_of_digits_are_refused():
    for name, labels, message in (
        ("ring", True, "labels has no effect on ring"),
        ("digits", ["1"], "labels must be true or false for digits"),
    ):
        with pytest.raises(config.ConfigError, match=message):
            config.load(name, overrides={"data": {"labels": labels}})
