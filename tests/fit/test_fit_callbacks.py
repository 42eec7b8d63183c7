"""The callbacks of pygan.fit, and trackers."""

import functools
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from helpers import accelerated_on, forget_accelerator, raises
from helpers.fit import metrics, picture, run, start_ranks
from helpers.sync import NoSync

import pygan
from pygan import checkpoint


class Recorder(pygan.Callback):
    """Appends each call to a list, which is its state in the checkpoints."""

    def __init__(self, calls=None, name="a"):
        self.calls, self.name, self.steps = [] if calls is None else calls, name, 0

    def on_step(self, trainer, step, stats):
        self.steps += 1
        assert trainer.steps == step and isinstance(stats.d_loss, torch.Tensor)
        self.calls.append((self.name, "step", step))

    def on_checkpoint(self, trainer, step, path):
        assert checkpoint.load(path)["step"] == step == trainer.steps
        self.calls.append((self.name, "checkpoint", step))

    def on_evaluate(self, trainer, step, metrics):
        assert metrics["quality"] == 1.5 and metrics["step"] == step and "d_loss" in metrics
        self.calls.append((self.name, "evaluate", step))

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


EVALUATE = {"evaluate": lambda _: {"quality": 1.5}, "evaluate_every": 4}


def test_callbacks_are_called_in_order_after_the_event(tmp_path):
    calls = []
    recorders = [Recorder(calls, name) for name in "ab"]
    run(tmp_path, steps=4, callbacks=recorders, **EVALUATE)
    expected = [("step", 1), ("step", 2), ("step", 3), ("step", 4)]
    expected += [("checkpoint", 4), ("evaluate", 4)]
    assert calls == [(name, *call) for call in expected for name in "ab"]


def test_the_state_of_a_callback_is_resumed(tmp_path, capsys):
    run(tmp_path, steps=5, callbacks=[Recorder(), Recorder()], **EVALUATE)
    resumed, other, new = Recorder(), Recorder(), Recorder()
    run(tmp_path, steps=8, callbacks=[resumed, other, new], resume="auto", **EVALUATE)
    assert (resumed.steps, other.steps, new.steps) == (8, 8, 3)
    assert "without" not in capsys.readouterr().err


def test_a_resumed_run_says_whose_state_it_drops(tmp_path, capsys):
    monitor = functools.partial(pygan.Monitor, every=2)
    run(
        tmp_path,
        steps=5,
        callbacks=[Recorder(), Recorder(), Unsaved()],
        monitor=monitor,
        **EVALUATE,
    )
    run(tmp_path, steps=6, callbacks=[Recorder()], monitor=Blank(), resume="auto", **EVALUATE)
    assert (
        "pygan.fit: resumed at step 5 without the callback Recorder#1, the monitor: the checkpoint's state is not "
        "loaded, and the next checkpoint will not contain it"
    ) in capsys.readouterr().err
    run(tmp_path, steps=7, monitor=False, resume="auto", **EVALUATE)
    said = capsys.readouterr().err
    assert "resumed at step 6 without the callback Recorder: the checkpoint's state" in said
    run(tmp_path, steps=8, monitor=False, resume="auto", **EVALUATE)
    assert "without" not in capsys.readouterr().err


class Unsaved(pygan.Callback):
    """A callback without a state."""


class Blank:
    """A monitor without a state."""

    def update(self, stats):
        return []


class Best(pygan.Callback):
    """Remembers the best value, like the example in the class's docstring, and the checkpoints."""

    def __init__(self):
        self.state = {"best": 9.0, "evaluated": [], "saved": []}

    def on_checkpoint(self, trainer, step, path):
        assert path.exists()
        self.state["saved"].append(step)

    def on_evaluate(self, trainer, step, metrics):
        self.state["best"] = min(self.state["best"], metrics["quality"])
        self.state["evaluated"].append(step)

    def state_dict(self):
        return {key: list(x) if isinstance(x, list) else x for key, x in self.state.items()}

    def load_state_dict(self, state):
        self.state = state


@pytest.mark.parametrize("every", [2, 4, None])
def test_a_resumed_callback_gets_the_evaluation_of_its_checkpoint(tmp_path, every):
    """The checkpoint is written before the evaluation of its step."""
    options = {
        "evaluate": lambda sample: {"quality": values.pop(0)},
        "evaluate_every": every,
        "checkpoint_every": 2,
    }
    values = [1.0] + 5 * [5.0]
    run(tmp_path, steps=4, callbacks=[Best()], **options)
    resumed = Best()
    run(tmp_path, steps=8, callbacks=[resumed], resume="auto", **options)
    evaluated = [n for n in (2, 4, 6, 8) if n % (every or 4) == 0]
    assert resumed.state == {"best": 1.0, "evaluated": evaluated, "saved": [2, 4, 6, 8]}


def test_on_evaluate_is_not_repeated_without_an_evaluation(tmp_path):
    run(tmp_path, steps=4, callbacks=[Best()])
    resumed = Best()
    run(tmp_path, steps=8, callbacks=[resumed], resume="auto", **EVALUATE)
    assert resumed.state["evaluated"] == [8]


def test_callbacks_do_not_synchronize(tmp_path, monkeypatch):
    seen = []

    class Keeps(pygan.Callback):
        def on_step(self, trainer, step, stats):
            with NoSync():
                seen.append(stats.d_loss + 0)

    run(tmp_path, callbacks=[Keeps()])
    assert len(seen) == 12


class Fails(pygan.Callback):
    def __init__(self, hook):
        setattr(self, hook, self.fail)

    def fail(self, *_):
        raise ZeroDivisionError("the user's own")


@pytest.mark.parametrize(
    ("hook", "saved"), [("on_step", None), ("on_checkpoint", 4), ("on_evaluate", 4)]
)
def test_an_exception_in_a_callback_ends_the_run(tmp_path, hook, saved):
    with raises(ZeroDivisionError, "the user's own"):
        run(tmp_path, callbacks=[Fails(hook)], **EVALUATE)
    last = checkpoint.latest(tmp_path / "checkpoints")
    assert (last and checkpoint.load(last)["step"]) == saved
    assert run(tmp_path, resume="auto", **EVALUATE).steps == 12


def test_a_callback_can_stop_the_run_with_a_signal(tmp_path):
    class Stop(pygan.Callback):
        def on_step(self, trainer, step, stats):
            if step == 7:
                signal.raise_signal(signal.SIGTERM)

    result = run(tmp_path, callbacks=[Stop()])
    assert (result.steps, result.stopped_by) == (7, "SIGTERM")
    assert checkpoint.load(result.checkpoint)["step"] == 7


class Misspelled(pygan.Callback):
    def on_steps(self, trainer, step, stats):
        pass


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        (Recorder(), "callbacks must be a list of pygan.Callback, got Recorder"),
        ([print], "callbacks must be a list of pygan.Callback, got one with builtin_function"),
        ([Recorder], "callbacks must be a list of pygan.Callback, got one with Recorder, the cl"),
        ([Misspelled()], "callbacks must define no hooks other than on_step, on_checkpoint, on_ev"),
    ],
)
def test_callbacks_that_would_not_be_called_are_refused(tmp_path, callbacks, message):
    with raises(TypeError, "pygan.fit: " + message):
        run(tmp_path / "a", callbacks=callbacks)
    assert not (tmp_path / "a").exists()


def recorded(out, folder):
    """A run in this process that records the calls."""
    recorder = Recorder()
    run(out, steps=4, log_every=4, callbacks=[recorder], **EVALUATE)
    import os

    Path(folder, os.environ["RANK"]).write_text(" ".join(kind for _, kind, _ in recorder.calls))
    return 0


def test_on_step_runs_in_every_process_and_the_others_in_the_main_one(tmp_path):
    processes = start_ranks(2, recorded, tmp_path / "out", tmp_path)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "0").read_text() == "step step step step checkpoint evaluate"
    assert (tmp_path / "1").read_text() == "step step step step"


class Tracker(GeneralTracker):
    """Like accelerate's own tracker for wandb."""

    name = "wandb"
    requires_logging_directory = False

    def __init__(self):
        super().__init__()
        self.lines, self.pictures, self.config, self.finished = [], [], None, 0

    @property
    def tracker(self):
        return self

    def store_init_configuration(self, values):
        self.config = values

    def log(self, values, step=None, **kwargs):
        self.lines.append({"step": step, **values})

    def log_images(self, values, step=None, **kwargs):
        (image,) = values["samples"]
        assert image.dtype == np.uint8 and image.ndim == 3
        self.pictures.append(step)

    def finish(self):
        self.finished += 1


def test_trackers_get_every_line_and_every_grid(tmp_path):
    tracker = Tracker()
    options = {"preview": picture, "sample_every": 6, "log_with": [tracker]}
    run(tmp_path, **options, **EVALUATE)
    assert tracker.lines == metrics(tmp_path) and len(tracker.lines) > 3
    assert tracker.pictures == [0, 6, 12] and tracker.finished == 1
    assert tracker.config["batch_size"] == 8 and tracker.config["g_optimizer.lr"] == 1e-2


def test_trackers_are_finished_when_a_run_fails(tmp_path):
    tracker = Tracker()
    with raises(ZeroDivisionError, "the user's own"):
        run(tmp_path, callbacks=[Fails("on_step")], log_with=tracker)
    assert tracker.finished == 1


def test_trackers_of_an_accelerator_are_left_open(tmp_path):
    tracker = Tracker()
    with accelerated_on("cpu"):
        accelerator = Accelerator(log_with=[tracker])
        accelerator.init_trackers("own", config={"a": 1})
        run(tmp_path, accelerator=accelerator)
    assert tracker.lines == metrics(tmp_path)
    assert tracker.finished == 0 and tracker.config == {"a": 1}
    forget_accelerator()


def test_trackers_of_an_accelerator_get_each_line_once_or_the_run_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.tracking._available_trackers", ["wandb"])
    tracker = Tracker()
    with accelerated_on("cpu"):
        accelerator = Accelerator(log_with=[tracker])
        with raises(ValueError, "pygan.fit: accelerator must have its trackers initialized, by"):
            run(tmp_path / "a", accelerator=accelerator)
        accelerator.init_trackers("own")
        for log_with in (tracker, "wandb"):
            with raises(
                ValueError, "pygan.fit: log_with must not contain a tracker that the accelerato"
            ):
                run(tmp_path / "a", accelerator=accelerator, log_with=log_with)
    assert not (tmp_path / "a").exists() and not tracker.lines
    forget_accelerator()


@pytest.mark.parametrize(
    ("log_with", "error", "message"),
    [
        ("wand", ValueError, "log_with must be one of aim, "),
        (
            "tensorboard",
            ValueError,
            "log_with must name trackers other than tensorboard, got 'tensorboard'",
        ),
        (3, TypeError, "log_with must be names of trackers, or accelerate.tracking.GeneralTracker"),
        (["dvclive"], ImportError, "log_with must be a tracker whose package is installed, got"),
    ],
)
def test_trackers_that_cannot_log_are_refused(tmp_path, log_with, error, message, monkeypatch):
    monkeypatch.setattr("accelerate.tracking._available_trackers", [])
    with raises(error, "pygan.fit: " + message):
        run(tmp_path / "a", log_with=log_with)
    assert not (tmp_path / "a").exists()
