"""`pygan train`: short runs from the command line, their files and errors, and resuming them."""

import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from helpers import DEVICES, accelerated_on
from helpers.fit import start

import pygan
from pygan import __main__, checkpoint, datasets
from pygan.training import config as configuration
from pygan.training.config import DataTable, recipes
from pygan.training.config_tables import _DATA_KEYS
from pygan.training.config_train import train_keys
from pygan.training.drawing import scatter
from pygan.training.sources import source

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


def test_a_run_on_digits_is_resumed(tmp_path):
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
        assert grid.size == (2 + 8 * 66, 22 + 2 + 8 * 66)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--data", "rnig"],
            "--data must be a data set (ring, grid, digits, stacked-digits, mnist, stacked-mnist",
        ),
        ([], "--data or --config must be given"),
        (["--data", "ring", "--config", "none.toml"], "cannot read none.toml"),
        (["--data", "ring", "--set", "train.emma=1"], "did you mean ema?"),
        (
            ["--data", "ring", "--set", "train.batch_size=0"],
            "[train] batch_size must be at least 1 or None, got 0",
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
def test_errors_are_one_line_and_status_2(arguments, message, tmp_path, capsys):
    assert command(*arguments, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_with_a_run_is_not_overwritten(tmp_path, capsys):
    arguments = ["--data", "ring", "--steps", 2, "--out", tmp_path, "--set", "data.samples=300"]
    assert command(*arguments) == 0
    assert command(*arguments) == 2
    assert "resume" in capsys.readouterr().err


RING = ["--data", "ring", "--set", "data.samples=500", "--set", "train.log_every=1"]


def test_weights_that_are_not_finite_are_status_1(tmp_path, capsys):
    out, more = tmp_path / "out", ["--set", "train.checkpoint_every=1", "--set", "model.depth=1"]
    assert command(*RING, *more, "--steps", 2, "--out", out) == 0
    wild = ["--steps", 9, "--out", out, "--resume", "--set", "optimizer.lr=1e30"]
    assert command(*RING, *more, *wild) == 2
    error = capsys.readouterr().err
    assert (
        "pygan.fit: [optimizer] lr must be that of the checkpoint" in error
        and "--allow-changes" in error
    )
    assert "allow_changes=" not in error and "_optimizer." not in error
    assert command(*RING, *more, *wild, "--allow-changes") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("pygan.fit: weights must stay finite, got NaN or infinite values in ")
    assert "from which --resume continues" in error and "--set train.nonfinite=rollback" in error
    assert "resume='auto'" not in error
    assert command(*RING, *more, "--steps", 9, "--out", out, "--resume", "--allow-changes") == 0


def test_more_steps_change_the_decay_of_the_learning_rate(tmp_path, capsys):
    """If it decays; a constant one does not change."""
    arguments = [*RING, "--out", tmp_path / "a", "--resume"]
    assert command(*arguments, "--steps", 2) == 0
    assert command(*arguments, "--steps", 4) == 2
    message = capsys.readouterr().err
    assert "[train] steps (of the learning rates' decay) must be that of the checkpoint" in message
    assert "lr_schedulers" not in message and "--allow-changes continues" in message
    assert command(*arguments, "--steps", 4, "--set", "optimizer.lr=0.1") == 2
    assert "(and so must [train] steps (of the learning rates' decay))" in capsys.readouterr().err
    assert command(*arguments, "--steps", 4, "--allow-changes") == 0
    # 1/2 (1 + cos(pi t)), after two of four steps; the last line has the rate after step 4, which is 0.
    assert [line["g_lr"] for line in lines(tmp_path / "a")][2:] == pytest.approx(
        [2e-3 * (1 + np.cos(np.pi * 0.75)) / 2, 0.0], abs=1e-12
    )
    arguments = [*RING, "--set", "optimizer.decay_from=1", "--out", tmp_path / "b", "--resume"]
    assert command(*arguments, "--steps", 2) == command(*arguments, "--steps", 4) == 0


def test_error_messages_name_the_options_of_the_command(tmp_path, capsys):
    assert command(*RING, "--steps", 2, "--out", tmp_path / "new", "--resume") == 0
    assert f"{tmp_path / 'new'} contains no checkpoint to resume from; starting a new run" in (
        capsys.readouterr().err
    )
    assert command(*RING, "--steps", 2, "--out", tmp_path / "new") == 2
    assert "; pass --resume to continue it, or choose another folder" in capsys.readouterr().err
    few = ("--set", "data.samples=5", "--out", tmp_path / "few")
    assert command(*RING, *few) == 2
    assert "lower it with --set train.batch_size, or --set train.drop_last=false" in (
        capsys.readouterr().err
    )


def in_child(report, limit, *arguments):
    """The command in another process, with its standard error in a file."""
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    errors = os.open(report, os.O_WRONLY | os.O_CREAT)
    os.dup2(errors, 2)
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    return command(*arguments)


def test_a_full_disk_is_one_line_and_status_2(tmp_path):
    report, out = tmp_path / "report", tmp_path / "out"
    more = ["--set", "train.tensorboard=false", "--set", "model.width=64"]
    arguments = [*RING, "--steps", 2, "--out", out, *more]
    process = start(in_child, report, 60_000, *arguments)
    process.join()
    assert process.exitcode == 2
    path = out / "checkpoints/step-00000002.pt"
    assert report.read_text() == f"[Errno {errno.EFBIG}] File too large: '{path}'\n"
    assert command(*arguments, "--resume") == 0


def interrupted_early(report, *arguments):
    # A shell that starts the tests in the background makes them ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def train(*_, **__):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(9)

    with mock.patch("pygan.training.command.train", train):
        return in_child(report, None, *arguments)


def test_an_interrupt_before_the_first_step_is_a_sentence_and_status_130(tmp_path):
    report = tmp_path / "report"
    process = start(interrupted_early, report, *RING, "--out", tmp_path / "out")
    process.join()
    assert process.exitcode == 130
    assert report.read_text() == "\npygan: interrupted\n"


def test_two_interrupts_at_once_are_a_sentence_and_status_130(tmp_path):
    report, out = tmp_path / "report", tmp_path / "out"
    more = ["--set", "train.checkpoint_every=1", "--set", "train.evaluate_every=1"]
    process = start(in_child, report, None, *RING, *more, "--steps", 5000, "--out", out)
    while not (out / "metrics.jsonl").exists() or not lines(out):
        time.sleep(0.01)
        assert process.is_alive()
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 130 and "Traceback" not in report.read_text()
    last = checkpoint.load(checkpoint.latest(out / "checkpoints"))["step"]
    assert command(*RING, "--steps", last + 1, "--out", out, "--resume", "--allow-changes") == 0


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["train", "--data", "ring", "--print-config"]])
def test_a_closed_pipe_ends_the_command_quietly(arguments):
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "pygan", *arguments], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(read)
    os.close(write)
    _, error = process.communicate()
    assert (process.returncode, error) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("data", [*recipes(), "photos"])
def test_the_configuration_can_be_shown_used_and_edited(tmp_path, monkeypatch, capsys, data, gpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)  # chooses the recipe
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    assert command("--data", data, "--print-config") == 0
    path = tmp_path / "run.toml"
    path.write_text(capsys.readouterr().out)
    assert command("--config", path, "--print-config") == 0
    assert capsys.readouterr().out == path.read_text()
    shown = configuration.tomllib.loads(path.read_text())["data"]
    edited = {"samples": 7, "scale": 3.0, "largest": 32, "background": "black", "labels": True}
    for key in edited.keys() & shown.keys():
        value = str(edited[key]).lower()
        assert command("--config", path, "--set", f"data.{key}={value}", "--print-config") == 0


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("fotos/", "no such folder; did you mean photos?"),
        ("Sbu/fotos/", "no such folder; did you mean sub/photos?"),
        ("sub/photos/a.png", "it is a file, not a folder"),
        ("grdi", "no such folder; did you mean grid?"),
        ("MNIST", "no such folder; did you mean mnist?"),
        ("nowhere/at/all", "no such folder"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--print-config"], ["--set", "data.scale=2.0"]])
def test_data_that_do_not_exist_are_refused_in_both_readings(
    tmp_path, monkeypatch, capsys, data, reason, more
):
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "sub/photos"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "sub/photos/a.png").touch()
    message = f"must be a data set ({', '.join(_DATA_KEYS)}) or a folder of images, got {data!r}: there is no data set "
    message += f"of that name, and {reason}\n"
    assert command("--data", data, *more) == 2
    assert capsys.readouterr().err == f"pygan train: --data {message}"
    Path("run.toml").write_text(f'[data]\nname = "{data}"')
    assert command("--config", "run.toml", *more) == 2
    assert capsys.readouterr().err == f"pygan train: run.toml: [data] name {message}"


def test_without_a_command_it_reports_the_build():
    run = subprocess.run(
        [sys.executable, "-m", "pygan"], capture_output=True, text=True, check=True
    )
    assert "cpu_capability" in run.stdout


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_points_are_evaluated_unscaled(name):
    plain, scaled = (
        source(DataTable(name=name, samples=5000, scale=s), seed=3) for s in (1.0, 0.5)
    )
    torch.testing.assert_close(scaled.data, plain.data / 2)
    for what in (plain, scaled):
        found = what.evaluate(lambda n, what=what: what.data[:n])
        assert found["modes"] == {"ring": 8, "grid": 25}[name]
        # A fraction exp(-4.5) of a Gaussian's samples lies beyond three standard deviations.
        assert found["high_quality"] == pytest.approx(1 - np.exp(-4.5), abs=0.01)
    pictures = [what.preview(what.data[:100]) for what in (plain, scaled)]
    np.testing.assert_array_equal(*pictures)


def test_scatter_plot():
    mixture = datasets.GRID
    picture = scatter(
        torch.tensor([[4.0, 2.0], [1.0, -1.0], [99.0, 0.0], [float("nan"), 0.0]]), mixture
    )
    assert picture.shape == (480 + 10 + 24, 480 + 34 + 10, 3)
    margin = np.concatenate([picture[490:].ravel(), picture[:, :34].ravel()])
    assert 100 < (margin < 128).sum() < 10_000  # ticks and numbers
    picture = picture[10:490, 34:514]
    blue = np.argwhere((picture == (31, 119, 180)).all(2))
    assert len(blue) == 2 * 9
    middle = np.unique(blue, axis=0).reshape(2, 9, 2).mean(1)
    position = (middle[:, ::-1] / 479 * 2 - 1) * 5.0 * [1, -1]
    np.testing.assert_allclose(position, [[4.0, 2.0], [1.0, -1.0]], atol=5.0 / 479)
    gray = np.argwhere((picture == 200).all(2))
    assert len(gray) > 24 * 20


def test_help_lists_the_keys_of_train(capsys):
    with pytest.raises(SystemExit):
        command("--help")
    _, keys = capsys.readouterr().out.split("Keys of [train]")
    assert "\n  log_every (50): Steps between lines of metrics" in keys
    assert "\n  d_steps (1): k, the discriminator steps per generator step" in keys
    assert (
        '("stop", "skip" or "rollback")' in keys and "\n  progress: Show a progress bar\n" in keys
    )
    assert re.findall(r"^  (\w+)[ :]", keys, re.M) == list(train_keys())
    # Neither options without a TOML value, nor those set by other tables or by arguments.
    assert not {"evaluate", "augment", "latent", "noise", "out", "resume"} & set(train_keys())


_PENALTIES = """
[[penalties]]
name = "R1"
gamma = 1.0
every = 4
[[penalties]]
name = "R2"
gamma = 0.02
every = 2
"""


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("[train]\nsteps = 3", {"[train] steps (of the learning rates' decay)": "3 instead of 2"}),
        ("[optimizer]\nlr = 0.1", {"[optimizer] lr": "0.1 instead of 0.002"}),
        ("[optimizer]\nd_lr = 0.1", {"[optimizer] d_lr": "0.1 instead of 0.002"}),
        (
            "[optimizer]\nbetas = [0.5, 0.9]\ndecay_from = 1.0",
            {
                "[optimizer] betas": "[0.5, 0.9] instead of [0.0, 0.99]",
                "[optimizer] decay_from": "1.0 instead of 0.0",
            },
        ),
        (
            '[train]\njoint = false\nema = "none"',
            {"[train] joint": "false instead of true", "[train] ema": "none instead of 0.998"},
        ),
        (
            '[noise]\nschedule = "Constant"\nsigma = 0.1',
            {"[noise] schedule": "Constant instead of none"},
        ),
        (
            _PENALTIES,
            {
                "gamma of [[penalties]] number 1": "1.0 instead of 0.02",
                "every of [[penalties]] number 2": "2 instead of 4",
            },
        ),
        ("penalties = []", {"the number of [[penalties]]": "0 instead of 2"}),
    ],
)
def test_changes_on_resume_are_named_once_by_their_keys(tmp_path, capsys, change, named):
    config = tmp_path / "run.toml"
    config.write_text("[train]\nsteps = 2")
    arguments = [*RING, "--out", tmp_path / "a", "--config", config]
    assert command(*arguments) == 0
    config.write_text(change)
    resumed = [*arguments, "--resume", *([] if "steps" in change else ["--steps", 2])]
    assert command(*resumed) == 2
    error = capsys.readouterr().err
    first, *others = named
    assert error.startswith(f"pygan.fit: {first} must be that of the checkpoint ")
    also = f" (and so must {', '.join(others)})" if others else ""
    assert error.endswith(f"{also}; --allow-changes continues with the new settings\n")
    assert command(*resumed, "--allow-changes") == 0
    told = re.findall("^pygan.fit: resumed at step 2 with (.*)$", capsys.readouterr().err, re.M)
    assert told == [f"{key} {values}" for key, values in named.items()]


def test_schedules_that_last_longer_on_resume_are_named_by_what_determines_their_length(
    tmp_path, capsys
):
    config = tmp_path / "run.toml"
    linear = 'schedule = "Linear", start = 1.0, end = 0.5'
    config.write_text(
        "[optimizer]\ndecay_from = 1.0\n"
        f"[train]\nadversarial_weight = {{{linear}, steps = 6}}\n"
        '[noise]\nschedule = "Cosine"\nstart = 0.5\nend = 0.0\nuntil = 0.5\n'
        f'[[penalties]]\nname = "R1"\ngamma = {{{linear}}}\n'
    )
    arguments = [*RING, "--out", tmp_path / "a", "--config", config]
    assert command(*arguments, "--steps", 2) == 0
    assert command(*arguments, "--steps", 4, "--resume") == 2
    share = " (a share of [train] steps)"
    error = capsys.readouterr().err
    assert f"pygan.fit: [noise] steps{share} must be that of the checkpoint " in error
    assert (
        f", 1, got 2 (and so must gamma.steps of [[penalties]] number 1{share}); --allow" in error
    )
    config.write_text(config.read_text("utf-8").replace("steps = 6", "steps = 7"))
    assert command(*arguments, "--steps", 2, "--resume") == 2
    assert "fit: [train] adversarial_weight.steps must be that of" in capsys.readouterr().err


def test_the_last_lines_are_of_the_last_step(tmp_path, capsys, monkeypatch):
    """Also of a run that is stopped between two logged steps, of which the file has no line."""
    losses = []

    def stop(trainer, *args, **kwargs):
        if trainer.steps == 5:
            os.kill(os.getpid(), signal.SIGINT)
        stats = step(trainer, *args, **kwargs)
        losses.append(float(stats.d_loss))
        return stats

    step = pygan.GANTrainer.step
    monkeypatch.setattr(pygan.GANTrainer, "step", stop)
    command(*RING, "--steps", 9, "--out", tmp_path, "--set", "train.log_every=4")
    printed = capsys.readouterr().out
    assert "\n6 steps done in " in printed and "\nAt step 6 (" in printed
    assert re.search(rf"^  d_loss +{losses[-1]:.4g}  ", printed, re.M)
    assert [line["step"] for line in lines(tmp_path)] == [4]


@pytest.mark.parametrize("loss", pygan.fused_losses.LOSSES)
def test_the_last_lines_have_only_metrics_that_the_loss_defines(tmp_path, capsys, loss):
    assert command(*RING, "--steps", 1, "--out", tmp_path, "--set", f"train.loss={loss}") == 0
    shown = set(re.findall(r"^  (\w+)  ", capsys.readouterr().out, re.M))
    missing = set(lines(tmp_path)[-1]) - shown - {"step"}
    bound, probabilities = {"jsd_bound"}, {"d_real", "d_fake", "d_fake_after"}
    if loss in ("non_saturating", "minimax"):
        assert missing == set()
    elif loss == "wasserstein":  # neither a boundary nor a probability
        accuracies = {"real_accuracy", "fake_accuracy", "real_sign"}
        assert missing == bound | probabilities | accuracies
    elif "relativistic" in loss:  # an offset of the logits means nothing
        assert missing == bound | probabilities
    else:
        assert missing == bound


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["model.width=5"], "[model] width must be that of the run to resume, 4, got 5"),
        (
            ["model.depth=2", "model.batch_norm=true", "train.joint=false"],
            "[model] depth must be that of the run to resume, 3, got 2 (and so must [model] batch_norm)",
        ),
        (
            ["model.architecture=dcgan", "model.latent=2"],
            "[model] architecture must be that of the run to resume, mlp, got dcgan",
        ),
    ],
)
def test_other_networks_are_refused_on_resume(tmp_path, capsys, change, named):
    """The weights fit no others, even with --allow-changes. Defaults count."""
    arguments = [*RING, "--steps", 2, "--out", tmp_path]
    assert command(*arguments, "--set", "model.batch_norm=false") == 0
    assert command(*arguments, "--resume") == 0
    options = [x for one in change for x in ("--set", one)]
    assert command(*arguments, "--resume", "--allow-changes", *options) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"pygan train: {named}")


def test_a_run_with_networks_of_another_version_is_refused_on_resume(tmp_path, capsys):
    arguments = [*RING, "--steps", 2, "--out", tmp_path]
    assert command(*arguments) == 0
    path = checkpoint.latest(tmp_path / "checkpoints")
    state = checkpoint.load(path)
    state["config"]["model"]["hidden"] = 3
    checkpoint.save(path, state)
    assert command(*arguments, "--resume") == 2
    message = "that this version of pygan has, got one with [model] hidden; use the version"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "config",
    [None, {"data": "photos"}, {"model": 3}, {"model": {"architecture": "mlp"}, "noise": 0.1}],
    ids=str,
)
def test_the_configuration_of_another_program_is_none_of_a_resumed_run(config):
    """To pygan.fit, any dict is a configuration."""
    shown = configuration.load("photos")
    assert configuration.load("photos", resumed=config) == shown


def test_other_data_are_refused_or_reported_on_resume(tmp_path, capsys):
    """The same number of samples with another scale was accepted silently."""
    arguments = [*RING, "--steps", 2, "--out", tmp_path]
    assert command(*arguments) == 0
    changed = [*arguments, "--resume", "--set", "data.scale=0.5"]
    assert command(*changed) == 2
    error = capsys.readouterr().err
    assert "pygan.fit: [data] scale must be that of the checkpoint" in error
    assert ", 2.0, got 0.5; --allow-changes continues" in error
    assert command(*changed, "--allow-changes") == 0
    assert "resumed at step 2 with [data] scale 0.5 instead of 2.0" in capsys.readouterr().err


def test_an_added_penalty_is_refused_or_reported_on_resume(tmp_path, capsys):
    arguments = [*RING, "--out", tmp_path / "a", "--set", "optimizer.decay_from=1"]
    config = tmp_path / "run.toml"
    table = '[[penalties]]\nname = "{}"\n{} = 0.1\n'
    config.write_text(table.format("R1", "gamma"))
    assert command(*arguments, "--steps", 2, "--config", config) == 0
    config.write_text(table.format("R1", "gamma") + table.format("LeCam", "weight"))
    changed = [*arguments, "--steps", 4, "--resume", "--config", config]
    assert command(*changed) == 2
    assert "the number of [[penalties]] must be that of the checkpoint" in capsys.readouterr().err
    assert command(*changed, "--allow-changes") == 0
    assert "with the number of [[penalties]] 2 instead of 1" in capsys.readouterr().err
    # From then on it is a setting of the run.
    assert command(*changed[:-4], 6, "--resume", "--config", config) == 0


def test_a_run_begins_with_the_networks_of_another(tmp_path, capsys):
    arguments = [*RING, "--steps", 2]
    assert command(*arguments, "--out", tmp_path / "a") == 0
    assert command(*arguments, "--out", tmp_path / "b", "--init-from", tmp_path / "a") == 0
    assert f"pygan.fit: begins with the networks of {tmp_path / 'a'}" in capsys.readouterr().err
    other = [*arguments, "--out", tmp_path / "c", "--init-from", tmp_path / "a"]
    assert command(*other, "--set", "model.depth=2") == 2
    error = capsys.readouterr().err
    assert "pygan.fit: generator must be the network of the checkpoint" in error
    assert "for --init-from, got one that differs in 4.weight ((4, 4) for (2, 4))" in error
    assert not (tmp_path / "c").exists()
    assert command(*other, "--set", "train.init_from=x") == 2
    assert (
        "--init-from must not be given together with --set train.init_from"
        in capsys.readouterr().err
    )


def test_the_last_lines_of_a_run_of_one_step(tmp_path, capsys):
    arguments = [*RING, "--steps", 1, "--out", tmp_path]
    assert command(*arguments) == 0
    assert "\n1 step done in " in capsys.readouterr().out
    assert command(*arguments, "--resume") == 0
    assert "\nNothing left to do: its only step was done before\n" in capsys.readouterr().out


def test_the_last_lines_of_a_run(tmp_path, capsys):
    arguments = [*RING, "--steps", 2, "--out", tmp_path / "a"]
    assert command(*arguments) == 0
    printed = capsys.readouterr().out
    assert "\n2 steps done in " in printed
    assert "\nAt step 2 (" in printed
    starts = {len(name) for name in re.findall(r"^  \S+ +", printed, re.M)}
    assert len(starts) == 1  # one column of values
    assert "The initial weights still make up 100% of the average, which evaluations" in printed
    assert command(*arguments, "--resume") == 0
    printed = capsys.readouterr().out
    assert (
        "\nNothing left to do: all 2 steps were done before\n" in printed
        and "0 steps" not in printed
    )
    assert command(*arguments) == 2
    assert "pygan.fit: --out must not contain another run" in capsys.readouterr().err
