"""pygan.fit interrupted by kill -9 at any moment or by SIGTERM, and resumed bitwise."""

import contextlib
import os
import random
import signal
import threading
import time

import pytest
import torch
from helpers import raises
from helpers.fit import (
    FULL,
    Augmented,
    assert_equal,
    fit_in_child,
    kill_at_write,
    metrics,
    picture,
    run,
    same_runs,
    slow_disk,
    spread,
    start,
)

from pygan import checkpoint
from pygan.checkpoint import CheckpointError

pytestmark = pytest.mark.usefixtures("one_thread")

RUN = {**FULL, "evaluate": spread, "evaluate_every": 5, "resume": "auto"}


def finished(out, **options):
    """The uninterrupted run, in a separate process like the others."""
    process = start(fit_in_child, out, **options)
    process.join()
    assert process.exitcode == 0
    return out


def unfinished(out):
    """Unfinished checkpoint files, and when they last changed."""
    return {path: path.stat().st_mtime_ns for path in out.glob("checkpoints/.*.tmp")}


def wait_for_writing(process, out):
    """Return when the process has started to write a checkpoint, or has ended, so that kills hit there even on slow
    machines."""
    before = unfinished(out)
    while process.is_alive():
        with contextlib.suppress(FileNotFoundError):  # finished in the meantime
            if not unfinished(out).items() <= before.items():
                return
        time.sleep(0.001)


def killed_at_random(folder, kills, within, launch, **options):
    """Runs that are killed and resumed until they finish, compared with an uninterrupted one; returns how many kills
    hit while a checkpoint was being written. Every other kill waits for that."""
    whole = finished(folder / "whole", **options)
    rng = random.Random(1)
    done = writing = number = 0
    while True:
        out = folder / str(number)
        process = launch(out, **options)
        if done < kills and done % 2:
            wait_for_writing(process, out)
        else:
            process.join(rng.uniform(0, within) if done < kills else None)
        if process.exitcode is None:
            process.kill()
            process.join()
        if process.exitcode == -signal.SIGKILL:
            done += 1
            writing += bool(list(out.glob("checkpoints/.*.tmp")))
            continue
        assert process.exitcode == 0
        same_runs(out, whole)
        assert not list(out.glob("checkpoints/.*"))
        if done >= kills:
            return writing
        number += 1


def launch(out, **options):
    return start(fit_in_child, out, **options)


def launch_slowly(out, **options):
    return start(slow_disk, fit_in_child, out, **options)


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    killed_at_random(tmp_path, 20, 0.7, launch, **RUN, steps=50, checkpoint_every=7)


@pytest.mark.slow
def test_killed_with_a_checkpoint_at_every_step(tmp_path):
    """With a disk so slow that kills hit while a checkpoint is being written."""
    writing = killed_at_random(
        tmp_path, 20, 0.7, launch_slowly, **RUN, steps=30, checkpoint_every=1
    )
    assert writing >= 5


@pytest.mark.slow
def test_killed_with_random_augmentation(tmp_path):
    """In a Dataset that is read in the training process; with pictures and TensorBoard."""
    options = {"preview": picture, "sample_every": 4, "tensorboard": True, "drop_last": False}
    options |= {"source": Augmented(30), "d_steps": 2, "steps": 30, "checkpoint_every": 3}
    killed_at_random(tmp_path, 15, 0.7, launch, **RUN, **options)


@pytest.mark.slow
def test_killed_before_each_call_that_writes(tmp_path):
    """The k-th start is killed before its k-th durable write, so that every interruption occurs."""
    options = {**RUN, "steps": 24, "checkpoint_every": 1, "keep": 2, "log_every": 1}
    whole = finished(tmp_path / "whole", **options)
    for call in range(1, 16):
        process = start(kill_at_write, call, fit_in_child, tmp_path / "a", **options)
        process.join()
        assert process.exitcode == -signal.SIGKILL, call
    same_runs(finished(tmp_path / "a", **options), whole)


class SignalAt:
    """An evaluation that sends this process a signal."""

    def __init__(self, step, number):
        self.step, self.number, self.calls = step, number, 0

    def __call__(self, sample):
        self.calls += 1
        if self.calls == self.step:
            os.kill(os.getpid(), self.number)
        return {}


@pytest.mark.parametrize(
    ("number", "name", "code"), [(signal.SIGTERM, "SIGTERM", 143), (signal.SIGINT, "SIGINT", 130)]
)
def test_a_signal_ends_the_run_with_a_checkpoint(tmp_path, capfd, number, name, code):
    options = {**FULL, "evaluate_every": 1, "checkpoint_every": None}
    whole = run(tmp_path / "whole", **options, evaluate=SignalAt(99, number))
    assert (whole.stopped_by, whole.exit_code, whole.steps) == (None, 0, 12)
    handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    result = run(tmp_path / "a", **options, evaluate=SignalAt(5, number))
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert (result.stopped_by, result.exit_code) == (name, code)
    assert result.checkpoint.name == f"step-{result.steps:08d}.pt" and result.steps in (5, 6)
    assert f"stopped by {name} after step {result.steps}" in capfd.readouterr().err
    result = run(tmp_path / "a", **options, evaluate=SignalAt(99, number), resume="auto")
    assert result.steps == 12
    same_runs(tmp_path / "a", tmp_path / "whole")


def test_a_second_signal_has_its_default_effect(tmp_path):
    def both(sample):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        return {}

    # A shell that starts the tests in the background makes them ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "a", evaluate=both, evaluate_every=1)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_signals_are_not_handled_in_another_thread(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def evaluate(sample):
        seen.append(signal.getsignal(signal.SIGTERM))
        return {}

    thread = threading.Thread(target=run, args=(tmp_path / "a",), kwargs={"evaluate": evaluate})
    thread.start()
    thread.join()
    assert seen == [before] and (tmp_path / "a/checkpoints/step-00000012.pt").exists()


@pytest.mark.slow
def test_workers_survive_a_sigterm_to_the_process_group(tmp_path):
    """As sent by a scheduler or a terminal: the data workers must survive it."""
    options = {**RUN, "source": Augmented(30, labels=True), "conditional": False, "workers": 2}
    options |= {"steps": 60, "checkpoint_every": None}
    whole = finished(tmp_path / "whole", **options)
    process = start(fit_in_child, tmp_path / "a", **options)
    while not (tmp_path / "a/metrics.jsonl").exists() or not metrics(tmp_path / "a"):
        time.sleep(0.01)
        assert process.is_alive()
    os.killpg(process.pid, signal.SIGTERM)
    process.join()
    assert process.exitcode == 143
    same_runs(finished(tmp_path / "a", **options), whole)


def test_a_truncated_checkpoint_is_skipped(tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "a"
    run(whole)
    run(out)
    newest = out / "checkpoints/step-00000012.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    with raises(CheckpointError, f"pygan.checkpoint.load: {newest} is truncated", "00000008.pt"):
        run(out, resume=newest)
    with pytest.warns(UserWarning, match="step-00000012.pt is truncated.*trying the previous one"):
        result = run(out, resume="auto")
    assert result.steps == 12
    same_runs(out, whole)
    for path in out.glob("checkpoints/*"):
        path.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="is empty"),
        raises(CheckpointError, "pygan.checkpoint.load: ", "is empty"),
    ):
        run(out, resume="auto")


def test_resuming_from_a_path(tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "a"
    run(whole)
    run(out)
    run(out, resume=out / "checkpoints/step-00000004.pt")
    same_runs(out, whole)
    # The checkpoint of step 8 was replaced in place, so that there always was one.
    abandoned = [path.name for path in (out / "checkpoints").glob("abandoned-*")]
    assert abandoned == ["abandoned-step-00000012.pt"]
    # The run diverges from there: abandoned checkpoints are kept, but not resumed from.
    run(out, steps=6, resume=out / "checkpoints/step-00000004.pt")
    names = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert names == [
        *("abandoned-step-00000008.pt", "abandoned-step-00000012.pt"),
        *("step-00000004.pt", "step-00000006.pt"),
    ]
    assert run(out, steps=6, resume="auto").steps == 6
    # Into another folder.
    run(tmp_path / "b", resume=whole / "checkpoints/step-00000008.pt")
    assert [line["step"] for line in metrics(tmp_path / "b")] == [9, 12]
    paths = [checkpoint.latest(folder / "checkpoints") for folder in (whole, tmp_path / "b")]
    assert_equal(*map(checkpoint.load, paths))


def test_resuming_a_finished_run_returns_it(tmp_path):
    first = run(tmp_path / "a", **FULL)
    before = (tmp_path / "a/metrics.jsonl").read_bytes()
    again = run(tmp_path / "a", **FULL, resume="auto")
    assert again.steps == 12 and again.checkpoint == first.checkpoint
    assert again.metrics == first.metrics
    assert (tmp_path / "a/metrics.jsonl").read_bytes() == before
    assert_equal(again.trainer.state_dict(), first.trainer.state_dict())


class Latents:
    """A callable that draws from its own generator, which is not in the checkpoint."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, n):
        return torch.randn(n, 4, generator=self.generator)


def test_grid_latents_stay_the_same_after_a_resume(tmp_path):
    options = {"preview": picture, "sample_every": 4}
    grids = []
    for seed, steps in ((1, 4), (2, 8)):
        result = run(tmp_path, latent=Latents(seed), steps=steps, resume="auto", **options)
        grids.append(checkpoint.load(result.checkpoint)["grid"])
    assert_equal(*grids)


def test_metrics_after_the_checkpoint_are_removed(tmp_path):
    out = tmp_path / "a"
    run(out, steps=8)
    with open(out / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 9, "d_loss": 1.0}\n{"step": 10, "d_lo')
    run(out, resume="auto")
    assert [line["step"] for line in metrics(out)] == [3, 6, 8, 9, 12]


BAD = [
    ({"batch_size": 6}, "batch_size must be that of the checkpoint", ", 8, got 6"),
    ({"seed": 4}, "seed must be that of the checkpoint", ", 3, got 4"),
    ({"source": torch.zeros(31, 6)}, "data must be that of", "30 samples, got 31 samples"),
    ({"drop_last": False}, "drop_last must be that of", "True, got False"),
    ({"d_steps": 2}, "d_steps must be that of", "1, got 2"),
    ({"steps": 5}, "steps must be at least those of the checkpoint", "12, got 5"),
    ({"lr_schedulers": []}, "lr_schedulers.length must be that of the checkpoint", ", 2, got 0"),
    ({"ema": 0.5}, "ema must be that of the checkpoint", ", None, got 0.5"),
]


def test_out_must_be_a_folder(tmp_path):
    file = tmp_path / "a"
    file.write_text("kept")
    with raises(NotADirectoryError, f"pygan.fit: out must be a folder, got the file {file}"):
        run(file)
    assert file.read_text() == "kept"


def test_another_run_is_refused(tmp_path):
    out = tmp_path / "a"
    run(out)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    for options, *message in BAD:
        with raises(ValueError, "pygan.fit: " + message[0], *message[1:]):
            run(out, resume="auto", **options)
    with raises(FileExistsError, "pygan.fit: out must not contain another run", "step-00000012.pt"):
        run(out)
    with raises(FileExistsError, "pygan.fit: out must not contain another run"):
        run(tmp_path / "b")
        run(out, resume=tmp_path / "b/checkpoints/step-00000004.pt")
    with raises(CheckpointError, "pygan.checkpoint.load:", "does not exist", "step-00000012.pt"):
        run(out, resume=out / "checkpoints/step-00000013.pt")
    with raises(CheckpointError, "pygan.checkpoint.load:", "does not exist"):
        run(out, resume=tmp_path / "missing.pt")  # not that `out` contains another run
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert run(out, resume="auto", seed=None).steps == 12  # the checkpoint's
