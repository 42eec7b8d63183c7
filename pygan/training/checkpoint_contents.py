"""The contents of a run's checkpoint, and resuming from it."""

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
from pygan.training.random_state import random_state, seed_all, set_random_state
from pygan.training.run_state import RunState
from pygan.training.saved_settings import roots, told
from pygan.training.stream_order import StreamOrder

__all__ = ["capture", "check_savable", "restore"]

State = dict[str, Any]


def capture(run: RunState) -> State:
    """All that `restore` needs, as plain data. Every process has to take part."""
    states = run.processes.gather(random_state(run.processes.device))
    state = _of_process(run)
    if not run.processes.is_main:
        return {}
    return {
        **state,
        "random": states,
        "numbers": run.numbers,
        "nonfinite": run.watch.saving(),
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
    """What the generator makes, for whoever loads it by itself."""
    fake, data = run.trainer.fake, run.sampling.data
    assert fake is not None  # a checkpoint is written after a step
    return {"shape": list(fake.shape[1:]), "conditional": data.labeled and data.conditional}


def check_savable(run: RunState) -> None:
    """Raise a TypeError for what no checkpoint can hold, before hours of training. Every process has to take part."""
    check_plain(_of_process(run), "state")


def restore(run: RunState, state: State, changed: dict[str, Any]) -> None:
    """Continue from a checkpoint's state, with the run's own settings where they have `changed`, to which those of the
    monitor are added.

    With another number of processes than it was written by, the generators that the networks draw from (dropout)
    are seeded anew: what they drew cannot be shared out.

    Raises:
        CheckpointError: it does not fit the run, or holds something else than it must. Nothing has been changed.
    """
    before, noise = copy.deepcopy(_of_process(run)), run.trainer.noise
    processes = run.processes
    try:
        changed.update(_missing(run, state))
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
        _set(run, {**state, "random": random})
        if roots(changed) & _RATES:
            _step_schedulers(run)
        run.numbers = state.get("numbers")
        counts = state.get("nonfinite", {"skipped": 0, "rollbacks": 0})
        run.watch.restore(counts, changed=bool(changed))
    except Exception as error:
        run.trainer.noise = noise  # which the monitor may have given it
        _set(run, before)
        assert run.storage.last is not None
        reason = " ".join(str(error).split())
        raise CheckpointError(
            run.storage.last, f"does not fit this run: {type(error).__name__}: {reason}"
        ) from error


def _of_process(run: RunState) -> State:
    """What this process holds. Of sharded networks every process has to take part."""
    keeps = getattr(run.monitor, "state_dict", None)
    fixed = run.sampling.fixed
    return {
        "step": run.step,
        "trainer": run.trainer.state_dict(),
        "lr_schedulers": [scheduler.state_dict() for scheduler in run.options.lr_schedulers],
        "monitor": None if keeps is None else keeps(),
        "random": random_state(run.processes.device),
        "grid": None if fixed is None else list(fixed),
        "stream": run.sampler.state_dict() if isinstance(run.sampler, StreamOrder) else None,
        "callbacks": callbacks.states(run.options.callbacks),
    }


def _set(run: RunState, state: State) -> None:
    """The reverse of `_of_process`."""
    if run.monitor is not None and state["monitor"] is not None:
        # First: it may give the trainer noise, whose state is among the trainer's.
        run.monitor.load_state_dict(state["monitor"])
    run.trainer.load_state_dict(state["trainer"])
    schedulers = run.options.lr_schedulers
    for scheduler, its_state in zip(schedulers, state["lr_schedulers"], strict=True):
        scheduler.load_state_dict(its_state)
    run.sampling.fixed = None if state["grid"] is None else tuple(state["grid"])
    run.step = state["step"]
    # Of earlier versions, or of a run with other data: it begins with the first epoch.
    if isinstance(run.sampler, StreamOrder) and state.get("stream") is not None:
        run.sampler.load_state_dict(state["stream"])
    callbacks.load_states(run.options.callbacks, state.get("callbacks", {}))
    set_random_state(state["random"], run.processes.device)


# The options that decide the learning rates.
_RATES = {"g_optimizer", "d_optimizer", "lr_schedulers"}


def _with_new_settings(run: RunState, state: State, changed: dict[str, Any]) -> State:
    """A checkpoint's state with what belongs to the changed settings as the run has it, at the checkpoint's step."""
    saved, fresh = state["trainer"], run.trainer.state_dict()
    options = roots(changed)
    # A part that is new begins as it was made; one that is gone is left behind.
    anew = set(options)
    if "penalties" in options:
        anew |= {name for name in fresh if name.startswith("penalt")}  # and the states of each
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
        trainer["noise"] = saved["noise"]  # which the monitor gave it, and will again
    if "seed" in options:
        trainer["stream"] = fresh["stream"]
    if options & {"data", "batch_size"} and state.get("stream") is not None:
        # So many batches of the others are no place in these.
        epoch = state["stream"]["epoch"] + 1
        state = {**state, "stream": {"epoch": epoch, "batch": 0, "state": None}}
    schedulers = state["lr_schedulers"]
    if options & _RATES:
        schedulers = [scheduler.state_dict() for scheduler in run.options.lr_schedulers]
    return {**state, "trainer": trainer, "lr_schedulers": schedulers}


def _noise(saved: State | None, fresh: State, step: int, changed: dict[str, Any]) -> State:
    """The state of the noise: a schedule that is another is as far as the run."""
    own = dict(fresh)
    if saved is not None and "noise" not in changed:
        own = dict(saved)
    else:
        own["schedule._extra_state"] = {**own["schedule._extra_state"], "count": step}
    if saved is not None:
        own["_extra_state"] = (fresh if "seed" in changed else saved)["_extra_state"]
    return own


def _monitor(run: RunState, saved: State, changed: dict[str, Any]) -> State:
    """The state of the monitor: one that reads at other steps has no memory, which is added to the changes."""
    fresh = run.monitor.state_dict()
    differ = {
        "monitor.every": (saved["every"], fresh["every"]),
        "monitor.window": (saved["window"]["size"], fresh["window"]["size"]),
    }
    differ = {name: both for name, both in differ.items() if both[0] != both[1]}
    if not differ:
        return saved
    if not run.options.allow_changes:
        text = told(differ, f"the checkpoint {run.storage.last}")
        raise ValueError(f"{text}; allow_changes=True continues with a monitor that begins anew")
    changed.update(differ)
    return {**fresh, "noise_applied": saved["noise_applied"]}


def _missing(run: RunState, state: State) -> dict[str, Any]:
    """Parts whose state the checkpoint does not have, as those of versions that did not keep the state of a loss."""
    missing = [name for name in run.trainer.state_dict() if name not in state["trainer"]]
    if missing and not run.options.allow_changes:
        raise ValueError(
            f"it has no state of {', '.join(missing)}; allow_changes=True begins with what the run has"
        )
    return {f"{name}.state": ("none", "the run's own") for name in missing}


def _step_schedulers(run: RunState) -> None:
    """Bring the schedules of learning rates, which begin anew, to the run's step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no optimizer has made a step
        for step in range(run.step):
            for scheduler in run.options.lr_schedulers:
                if getattr(scheduler, "last_epoch", 0) <= step:
                    scheduler.step()


def _pygan_version() -> str:
    import pygan

    return pygan.__version__
