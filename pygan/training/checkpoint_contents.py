"""The contents of a run's checkpoint, and resuming a run from it."""

from __future__ import annotations

import copy
import platform
import warnings
from typing import Any

import torch

from pygan.checkpoint import CheckpointError, check_plain
from pygan.monitor import Monitor
from pygan.training import callbacks
from pygan.training.batch_order import derived_seed
from pygan.training.checkpoint_settings import describe_changes, roots
from pygan.training.loader_position import LoaderPosition
from pygan.training.lr_schedulers import steps_of
from pygan.training.random_state import random_state, seed_all, set_random_state
from pygan.training.run_state import RunState

__all__ = ["capture", "check_savable", "restore"]

State = dict[str, Any]


def capture(run: RunState) -> State:
    """Everything that `restore` needs, as plain data. Call it in every process."""
    states = run.processes.gather(random_state(run.processes.device))
    state = _process_state(run)
    if not run.processes.is_main:
        return {}
    return {
        **state,
        "random": states,
        "numbers": run.numbers,
        "nonfinite": run.guard.saving(),
        "samples": _samples(run),
        "run": run.settings,
        "config": {} if run.options.config is None else run.options.config,
        "versions": {
            "pygan": _pygan_version(),
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    }


def _samples(run: RunState) -> State:
    """A description of the generated samples, for `pygan.load_generator`."""
    fake, data = run.trainer.fake, run.sampling.data
    assert fake is not None  # a checkpoint is written after a step
    return {"shape": list(fake.shape[1:]), "conditional": data.labeled and data.conditional}


def check_savable(run: RunState) -> None:
    """Raise a TypeError, before hours of training, if the state cannot be saved. Call it in every process."""
    check_plain(_process_state(run), "state")


def restore(run: RunState, state: State, changed: dict[str, Any]) -> list[str]:
    """Continue from a checkpoint's state, but with the run's own values for the settings in `changed`, to which changes
    of the monitor's settings are added.

    If the number of processes has changed, the random generators that the networks use (dropout) get new seeds, because
    their states cannot be redistributed.

    Returns:
        The callbacks and the monitor whose state is in the checkpoint, but which the run does not have.

    Raises:
        CheckpointError: the checkpoint does not fit the run, or is invalid. Nothing has been changed.
    """
    before, noise = copy.deepcopy(_process_state(run)), run.trainer.noise
    processes = run.processes
    try:
        changed.update(_missing(run, state, changed))
        if changed:
            state = _with_new_settings(run, state, changed)
        if isinstance(run.monitor, Monitor) and state["monitor"] is not None:
            state = {**state, "monitor": _monitor(run, state["monitor"], changed)}
        if len(state["random"]) == processes.world:
            random = state["random"][processes.rank]
        else:
            seed = derived_seed(run.sampler.seed, "resumed", state["step"], processes.rank)
            seed_all(seed, processes.device)
            random = random_state(processes.device)
        _load_process_state(run, {**state, "random": random})
        if roots(changed) & _RATES:
            _step_schedulers(run)
        run.numbers = state.get("numbers")
        counts = state.get("nonfinite", {"skipped": 0, "rollbacks": 0})
        run.guard.restore(counts, changed=bool(changed))
    except Exception as error:
        run.trainer.noise = noise  # the monitor may have replaced it
        _load_process_state(run, before)
        assert run.storage.last is not None
        reason = " ".join(str(error).split())
        raise CheckpointError(
            run.storage.last, f"does not fit this run: {type(error).__name__}: {reason}"
        ) from error
    there = callbacks.stateful(run.options.callbacks)
    absent = [f"the callback {name}" for name in state.get("callbacks", {}) if name not in there]
    if state["monitor"] is not None and not hasattr(run.monitor, "load_state_dict"):
        absent.append("the monitor")
    return absent


def _process_state(run: RunState) -> State:
    """The state of this process. If the networks are sharded, call it in every process."""
    keeps = getattr(run.monitor, "state_dict", None)
    fixed = run.sampling.fixed
    return {
        "step": run.step,
        "trainer": run.trainer.state_dict(),
        "lr_schedulers": [scheduler.state_dict() for scheduler in run.options.lr_schedulers],
        "monitor": None if keeps is None else keeps(),
        "random": random_state(run.processes.device),
        "grid": None if fixed is None else list(fixed),
        "stream": run.sampler.state_dict() if isinstance(run.sampler, LoaderPosition) else None,
        "callbacks": callbacks.states(run.options.callbacks),
    }


def _load_process_state(run: RunState, state: State) -> None:
    """The reverse of `_process_state`."""
    if state["monitor"] is not None and hasattr(run.monitor, "load_state_dict"):
        # First, because it may give the trainer noise, whose state is part of the trainer's.
        run.monitor.load_state_dict(state["monitor"])
    run.trainer.load_state_dict(state["trainer"])
    schedulers = run.options.lr_schedulers
    for scheduler, its_state in zip(schedulers, state["lr_schedulers"], strict=True):
        scheduler.load_state_dict(its_state)
    run.sampling.fixed = None if state["grid"] is None else tuple(state["grid"])
    run.step = state["step"]
    # Missing in checkpoints of earlier versions and of runs with other data: start with the first epoch.
    if isinstance(run.sampler, LoaderPosition) and state.get("stream") is not None:
        run.sampler.load_state_dict(state["stream"])
    callbacks.load_states(run.options.callbacks, state.get("callbacks", {}))
    set_random_state(state["random"], run.processes.device)


# The options that determine the learning rates.
_RATES = {"g_optimizer", "d_optimizer", "lr_schedulers"}


def _with_new_settings(run: RunState, state: State, changed: dict[str, Any]) -> State:
    """A checkpoint's state in which the parts that belong to changed settings are replaced by the run's, at the
    checkpoint's step."""
    saved, fresh = state["trainer"], run.trainer.state_dict()
    options = roots(changed)
    # New parts keep their initial state; the state of removed parts is dropped.
    anew = set(options)
    if "penalties" in options:
        # Including the state of each penalty.
        anew |= {name for name in fresh if name.startswith("penalt")}
    trainer = {
        name: fresh[name] if name in anew else saved.get(name, fresh[name]) for name in fresh
    }
    for name in ("g_optimizer", "d_optimizer"):
        if f"{name}.type" not in changed and f"{name}.groups" not in changed:
            trainer[name] = saved[name]
        if options & _RATES:
            trainer[name] = {**trainer[name], "param_groups": fresh[name]["param_groups"]}
    if "noise" in fresh:
        trainer["noise"] = _noise(saved.get("noise"), fresh["noise"], state["step"], changed)
    elif "noise" in saved and "noise" not in options:
        trainer["noise"] = saved["noise"]  # the monitor added it, and will add it again
    if "seed" in options:
        trainer["stream"] = fresh["stream"]
    if options & {"data", "batch_size"} and state.get("stream") is not None:
        # A number of batches of the old data is not a position in the new data.
        epoch = state["stream"]["epoch"] + 1
        state = {**state, "stream": {"epoch": epoch, "batch": 0, "state": None}}
    schedulers = state["lr_schedulers"]
    if options & _RATES:
        schedulers = [scheduler.state_dict() for scheduler in run.options.lr_schedulers]
    return {**state, "trainer": trainer, "lr_schedulers": schedulers}


def _noise(saved: State | None, fresh: State, step: int, changed: dict[str, Any]) -> State:
    """The state of the noise; a changed schedule is advanced to the run's step."""
    own = dict(fresh)
    if saved is not None and "noise" not in changed:
        own = dict(saved)
    else:
        own["schedule._extra_state"] = {**own["schedule._extra_state"], "count": step}
    if saved is not None:
        own["_extra_state"] = (fresh if "seed" in changed else saved)["_extra_state"]
    return own


def _monitor(run: RunState, saved: State, changed: dict[str, Any]) -> State:
    """The state of the monitor. One that reads at other steps starts without history; that is added to `changed`."""
    fresh = run.monitor.state_dict()
    differ = {
        "monitor.every": (saved["every"], fresh["every"]),
        "monitor.window": (saved["window"]["size"], fresh["window"]["size"]),
    }
    differ = {name: both for name, both in differ.items() if both[0] != both[1]}
    if not differ:
        return saved
    if not run.options.allow_changes:
        text = describe_changes(differ, f"the checkpoint {run.storage.last}")
        raise ValueError(f"{text}; allow_changes=True continues with a new monitor")
    changed.update(differ)
    return {**fresh, "noise_applied": saved["noise_applied"]}


def _missing(run: RunState, state: State, changed: dict[str, Any]) -> dict[str, Any]:
    """Parts whose state the checkpoint lacks, such as the state of a loss, which earlier versions did not save; except
    for those that are new, because their option has changed."""
    known = {*state["trainer"], *roots(changed)}
    missing = [name for name in run.trainer.state_dict() if name not in known]
    if missing and not run.options.allow_changes:
        raise ValueError(
            f"it contains no state of {', '.join(missing)}; allow_changes=True keeps this run's initial state"
        )
    return {f"{name}.state": ("none", "the run's own") for name in missing}


def _step_schedulers(run: RunState) -> None:
    """Advance the learning-rate schedulers, which start fresh, to the run's step."""
    trainer = run.trainer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ignore the warning that the optimizer has made no step
        for step in range(run.step):
            for scheduler in run.options.lr_schedulers:
                due = steps_of(
                    scheduler, step + 1, trainer.d_optimizer, trainer.discriminator_start
                )
                if getattr(scheduler, "last_epoch", 0) < due:
                    scheduler.step()


def _pygan_version() -> str:
    import pygan

    return pygan.__version__
