"""Faults during a run of pygan.fit, after which it can be resumed: a full disk, a second process with the same folder,
kill -9, and evaluations and previews that fail."""

import errno
import json
import os
import re
import resource
import signal
import socket
import time

import numpy as np
import pytest
from helpers import raises
from helpers.fit import (
    FULL,
    Augmented,
    fit_in_child,
    metrics,
    picture,
    run,
    same_runs,
    spread,
    start,
)

from pygan import checkpoint
from pygan.training.lock import RunLock

pytestmark = pytest.mark.usefixtures("one_thread")


class FailsAt:
    """An evaluation or a preview that fails at its n-th call."""

    def __init__(self, n, function):
        self.left, self.function = n, function

    def __call__(self, argument):
        self.left -= 1
        if self.left == 0:
            raise ZeroDivisionError("the user's own")
        return self.function(argument)


OFTEN = {"evaluate": spread, "evaluate_every": 5, "preview": picture, "sample_every": 5}
OFTEN |= {**FULL, "checkpoint_every": 5, "tensorboard": True}


@pytest.mark.parametrize("what", ["evaluate", "preview"])
@pytest.mark.parametrize(("call", "step"), [(1, 5), (2, 10), (3, 12)])
def test_the_checkpoint_is_written_before_user_code_that_may_fail(tmp_path, what, call, step):
    """A resumed run first evaluates that step and writes its grid."""
    whole, out = tmp_path / "whole", tmp_path / "a"
    run(whole, **OFTEN)
    call += what == "preview"  # the grid of step 0 has been written
    with pytest.raises(ZeroDivisionError, match="the user's own"):
        run(out, **{**OFTEN, what: FailsAt(call, OFTEN[what])})
    assert checkpoint.load(checkpoint.latest(out / "checkpoints"))["step"] == step
    assert not (out / f"samples-{step:08d}.png").exists()
    assert (metrics(out)[-1]["step"] == step) == (what == "preview")
    run(out, **OFTEN, resume="auto")
    same_runs(out, whole)
    names = [sorted(path.name for path in folder.glob("*.png")) for folder in (out, whole)]
    assert names[0] == names[1]
    assert all((out / name).read_bytes() == (whole / name).read_bytes() for name in names[0])


def test_a_reported_step_is_not_evaluated_again(tmp_path):
    run(tmp_path, **OFTEN, steps=5)
    lines, seen = metrics(tmp_path), []
    run(
        tmp_path,
        **{**OFTEN, "evaluate": lambda sample: seen.append(1) or {}},
        steps=5,
        resume="auto",
    )
    assert metrics(tmp_path) == lines and not seen


def slow_run(out, **options):
    """Start a slow run in another process, and return when it has logged its first line."""

    process = start(fit_in_child, out, evaluate=_slow, evaluate_every=1, log_every=1, **options)
    while not (out / "metrics.jsonl").exists() or not metrics(out):
        time.sleep(0.01)
        assert process.is_alive()
    return process


def _slow(sample):
    time.sleep(0.1)
    return {}


@pytest.mark.parametrize("resume", [None, "auto"])
def test_a_second_process_gets_an_error_that_names_the_first(tmp_path, resume):
    options = {**FULL, "checkpoint_every": 1}
    process = slow_run(tmp_path, **options)
    with raises(
        BlockingIOError,
        f"pygan.fit: out must not be in use by another run, got {tmp_path}, which process {process.pid} on "
        f"{socket.gethostname()} (started 20",
    ):
        run(tmp_path, **options, resume=resume)
    assert process.is_alive()
    process.join()
    assert process.exitcode == 0
    assert [line["step"] for line in metrics(tmp_path)] == list(range(1, 13))
    assert run(tmp_path, **options, resume="auto", steps=13).steps == 13


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_process_leaves_no_lock(tmp_path, workers):
    """Nor do its data workers, which survive it by seconds."""
    options = {**FULL, "checkpoint_every": 1, "source": Augmented(30), "workers": workers}
    process = slow_run(tmp_path, **options)
    process.kill()
    process.join()
    result = run(tmp_path, **options, resume="auto")
    assert result.steps == 12 and not (tmp_path / ".lock").read_text()
    assert all(checkpoint.load(p) for p in checkpoint.numbered(tmp_path / "checkpoints"))


def test_a_lock_is_exclusive_and_released_with_the_run(tmp_path):
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    assert first.acquire() and not first.acquire()
    with pytest.raises(BlockingIOError, match=f"process {os.getpid()} on "):
        second.acquire()
    first.release()
    with second:
        assert second.acquire()
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, evaluate=lambda _: 1 / 0)
    assert first.acquire()
    first.release()


def test_a_folder_that_cannot_be_locked_gives_a_warning(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.warns(UserWarning, match="cannot be locked .No locks available.: make sure"):
        run(tmp_path)


def with_file_limit(out, limit, report, **options):
    """Run with a limit on the size of files, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        return fit_in_child(out, **options)
    except OSError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        report.write_text(json.dumps([error.errno, os.path.basename(error.filename or "")]))
        return 2


def noise_picture(samples):
    return np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)


# The options that write a large file, the limit in bytes, and the file that exceeds it.
LARGE = {
    "lock": ({}, 0, r"\.lock"),
    "checkpoint": ({"checkpoint_every": 4}, 4_000, r"step-00000004\.pt"),
    "metrics": ({"log_every": 1, "checkpoint_every": None}, 1_000, r"metrics\.jsonl"),
    "picture": ({"preview": noise_picture, "sample_every": 4}, 100_000, r"samples-00000000\.png"),
    "tensorboard": ({"tensorboard": True, "log_every": 1, "steps": 200}, 60_000, "a"),
}


@pytest.mark.parametrize("what", LARGE)
def test_a_full_disk_names_the_file_and_the_run_can_be_resumed(tmp_path, what):
    options, limit, name = LARGE[what]
    whole, out, report = tmp_path / "whole", tmp_path / "a", tmp_path / "report"
    options = {**FULL, "steps": 12, **options}
    run(whole, **options)
    process = start(with_file_limit, out, limit, report, **options)
    process.join()
    assert process.exitcode == 2
    number, file = json.loads(report.read_text())
    assert number == errno.EFBIG and re.fullmatch(name, file)
    assert not list(out.rglob("*.tmp"))
    run(out, **options, resume="auto")
    same_runs(out, whole)


def test_a_full_disk_leaves_the_checkpoints_before(tmp_path, monkeypatch):
    fsync, calls = os.fsync, []

    def full(file):
        calls.append(1)
        if len(calls) > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"No space left on device: '.*step-\d+\.pt'") as caught:
            run(tmp_path / "a", **FULL, log_every=3, checkpoint_every=2)
    assert caught.value.errno == errno.ENOSPC
    before = checkpoint.latest(tmp_path / "a/checkpoints")
    assert checkpoint.load(before)["step"] < 12
    run(tmp_path / "a", **FULL, checkpoint_every=2, resume="auto")
    run(tmp_path / "whole", **FULL, checkpoint_every=2)
    same_runs(tmp_path / "a", tmp_path / "whole")


def test_unsavable_state_is_refused_before_the_first_step(tmp_path):
    class Counted:
        """A monitor with a state that cannot be saved."""

        steps = 0

        def update(self, stats):
            Counted.steps += 1
            return []

        def state_dict(self):
            return {"seen": np.float64(1.0)}

        def load_state_dict(self, state):
            pass

    with raises(
        TypeError, "pygan.checkpoint.save: state['monitor']['seen'] must be", "numpy.float64"
    ):
        run(tmp_path / "a", monitor=Counted())
    assert Counted.steps == 0 and not (tmp_path / "a").exists()


def test_a_missing_checkpoint_is_reported_on_resume(tmp_path, capsys):
    run(tmp_path, resume="auto")
    message = f"pygan.fit: {tmp_path} contains no checkpoint to resume from; starting a new run"
    assert message in capsys.readouterr().err
    run(tmp_path, resume="auto")
    assert "contains no checkpoint" not in capsys.readouterr().err


@pytest.mark.slow
def test_two_simultaneous_signals_leave_a_resumable_run(tmp_path):
    options = {**FULL, "checkpoint_every": 1}
    process = slow_run(tmp_path / "a", **options)
    for _ in range(2):
        os.kill(process.pid, signal.SIGINT)
    process.join()
    run(tmp_path / "a", **options, resume="auto")
    assert metrics(tmp_path / "a")[-1]["step"] == 12
