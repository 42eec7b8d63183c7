"""`pygan sample`, and features that it shares with the other commands for runs, on two-step runs."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.result import command, conditional, read, trained

import pygan
from pygan import __main__, checkpoint
from pygan.result import arguments
from pygan.training.drawing import ink
from pygan.training.sample_grids import image_grid


def test_samples_as_arrays(runs, tmp_path, capsys):
    out = tmp_path / "new" / "x.npz"
    assert command("sample", runs / "digits", "--n", 70, "--out", out, "--seed", 5) == 0
    printed = capsys.readouterr()
    assert f"70 samples in {out}: seed 5, the average of step 2" in printed.out
    assert "the initial weights still make up 100% of the average; --no-average uses" in printed.err
    arrays = np.load(out)
    assert list(arrays) == ["samples"]
    expected = pygan.load_generator(runs / "digits").sample(70, seed=5)
    torch.testing.assert_close(torch.from_numpy(arrays["samples"]), expected, rtol=0, atol=0)
    more = ("--truncation", 0.5, "--batch", 7, "--no-average", "--checkpoint", 2, "--force")
    assert command("sample", runs / "digits", "--n", 9, "--out", out, *more) == 0
    own = pygan.load_generator(runs / "digits", average=False).sample(9, truncation=0.5)
    torch.testing.assert_close(torch.from_numpy(np.load(out)["samples"]), own)
    printed = capsys.readouterr()
    assert "the generator of step 2" in printed.out and not printed.err


def test_samples_as_a_folder_of_pictures(runs, photos, tmp_path):
    out = tmp_path / "samples"
    assert command("sample", photos[0], "--n", 5, "--out", out) == 0
    images = pygan.load_generator(photos[0]).sample(5)
    names = [f"sample-{i:06d}.png" for i in range(5)]
    assert sorted(path.name for path in out.iterdir()) == names
    for name, image in zip(names, images, strict=True):
        np.testing.assert_array_equal(read(out / name), image_grid(image[None], padding=0))
    # With fewer samples, none of the earlier files remain, but other files do.
    (out / "notes.txt").write_text("mine")
    assert command("sample", runs / "digits", "--n", 2, "--out", out) == 2
    assert command("sample", runs / "digits", "--n", 2, "--out", out, "--force") == 0
    assert sorted(path.name for path in out.iterdir()) == ["notes.txt", *names[:2]]
    assert read(out / names[0]).shape == (8, 8)


def test_samples_as_one_picture(runs, tmp_path):
    assert command("sample", runs / "digits", "--out", tmp_path / "digits.png") == 0
    grid = ink(pygan.load_generator(runs / "digits").sample(64))[..., 0]  # as in the run's folder
    np.testing.assert_array_equal(read(tmp_path / "digits.png"), grid)
    assert command("sample", runs / "grid", "--n", 200, "--out", tmp_path / "grid.png") == 0
    assert read(tmp_path / "grid.png").ndim == 3


def test_classes_in_turn_or_a_single_one(animals, tmp_path, capsys):
    out = tmp_path / "x.npz"
    assert command("sample", "none.pt", "--n", 4, "--out", out) == 0
    arrays = np.load(out)
    assert arrays["labels"].tolist() == [0, 1, 2, 0]
    np.testing.assert_allclose(arrays["samples"][:, 0, 0, 0], [0, 0.1, 0.2, 0])
    for name in ("dog", "1"):
        assert command("sample", "none.pt", "--n", 4, "--out", out, "--class", name, "--force") == 0
        assert np.load(out)["labels"].tolist() == [1] * 4
    capsys.readouterr()
    assert command("sample", "none.pt", "--out", tmp_path / "y.npz", "--class", "cow") == 2
    error = capsys.readouterr().err
    assert error == (
        "pygan sample: --class must be one of cat, dog, ../owl, or its number, got 'cow'\n"
    )
    # Each class has a folder; a name that would lead to another folder is replaced by the number.
    assert command("sample", "none.pt", "--n", 3, "--out", tmp_path / "all") == 0
    found = sorted(str(path.relative_to(tmp_path / "all")) for path in tmp_path.rglob("*.png"))
    assert found == ["2/sample-000002.png", "cat/sample-000000.png", "dog/sample-000001.png"]


def test_unnamed_classes_are_given_by_number(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(arguments, "load_generator", lambda *_, **__: conditional(None))
    assert command("sample", "none.pt", "--out", tmp_path / "x.npz") == 2
    assert "--class must be given, because the configuration of the run" in capsys.readouterr().err
    assert command("sample", "none.pt", "--out", tmp_path / "x.npz", "--class", 7) == 0
    assert np.load(tmp_path / "x.npz")["labels"].tolist() == [7] * 64


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["digits", "--out", "x.jpg"], "--out must be a folder, or end in .npz or .png, got x.jpg"),
        (["ring", "--out", "x"], "--out must end in .npz or .png for samples of shape (2,), which"),
        (["digits", "--out", "x.npz", "--class", "3"], "--class must be omitted for a run witho"),
        (["digits", "--out", "x.npz", "--truncation", "-1"], "truncation must be finite and at le"),
        (["digits", "--out", "x.npz", "--checkpoint", "9"], "does not exist; existing steps: 2"),
        (["digits", "--out", "x.png", "--n", "900000"], "--n must be at most 116281, the number"),
        (["digits", "--out", "x.npz", "--device", "tpu"], "--device must be one that torch has"),
        (["none", "--out", "x.npz"], "none does not exist"),
    ],
)
def test_errors_of_sample_are_one_line_and_status_2(
    given, message, runs, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert command("sample", runs / given[0], *given[1:]) == 2
    error = capsys.readouterr().err
    assert error.startswith("pygan sample: ") and message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_existing_files_are_not_replaced_without_force(runs, tmp_path, capsys):
    for suffix, name in ((".npz", "sample"), (".png", "sample"), (".pt2", "export")):
        out = tmp_path / f"x{suffix}"
        out.write_text("mine")
        assert command(name, runs / "digits", "--out", out) == 2
        assert out.read_text() == "mine" and "--force replaces it" in capsys.readouterr().err
        assert command(name, runs / "digits", "--out", out, "--force") == 0
        assert out.read_bytes()[:4] != b"mine"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("argv", [["--help"], [], ["eval", "--help"]])
def test_help_lists_every_command_and_a_call_imports_one(argv):
    """Neither the list nor a command needs the modules of the other commands."""
    code = f"""
import sys, pygan.__main__ as m
try: m.main({argv})
except SystemExit: pass
print(*(name for name, (module, _) in m._COMMANDS.items() if module in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *shown, imported = done.stdout.splitlines()
    assert imported.split() == (["eval"] if "eval" in argv else [])
    if argv == ["--help"]:
        for name in __main__._COMMANDS:
            assert any(line.startswith(f"    {name} ") for line in shown)


def test_the_newest_or_the_specified_checkpoint_is_used(tmp_path, capsys):
    trained("ring", tmp_path, "train.checkpoint_every=1")
    first = checkpoint.latest(tmp_path / "checkpoints").with_name("step-00000001.pt")
    for given in (["--checkpoint", "1"], ["--checkpoint", first.name], []):
        out = tmp_path / "x.npz"
        assert command("sample", tmp_path, "--out", out, "--force", *given) == 0
        assert f"of step {1 if given else 2}" in capsys.readouterr().out
    assert command("sample", first, "--out", out, "--force", "--checkpoint", "2") == 2
    assert "must be the folder of a run if a checkpoint is named" in capsys.readouterr().err


def test_messages_begin_with_the_command_alone(tmp_path, capsys):
    assert command("sample", "nothing", "--out", tmp_path / "x.npz") == 2
    assert capsys.readouterr().err == "pygan sample: nothing does not exist\n"
