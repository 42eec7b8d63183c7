"""What a checkpoint of a run holds, and how a run continues from it."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import torch

from pygan.training.data import Data
from pygan.training.options import Options
from pygan.training.processes import Processes
from pygan.training.random_state import random_state, seed_all, set_random_state
from pygan.training.sampler import derived_seed
from pygan.training.storage import Storage

if TYPE_CHECKING:
    from pygan.training.run import Run

__all__ = ["begin", "capture", "restore"]

State = dict[str, Any]


def begin(
    options: Options, data: Data, d_steps: int, processes: Processes, storage: Storage
) -> tuple[int, State | None]:
    """The seed of the run and, if it is to be resumed, the checkpoint: found by the main process, told to all.

    Raises:
        ValueError: the checkpoint is of a run with other batches, or the processes were given different arguments.
    """
    arguments = {
        "batch_size": options.batch_size,
        "data": data.size,
        "drop_last": options.drop_last,
        "d_steps": d_steps,
        "seed": options.seed,
        "steps": options.steps,
        "sharded": options.sharded,
    }
    for rank, theirs in enumerate(processes.gather(arguments)):
        _check_same(arguments, theirs, f"process {rank}")

    def find() -> tuple[int, State | None, Any]:
        seed, state = options.seed, storage.find(options.resume)
        if state is not None:
            run = state["run"]
            given = {**arguments, "seed": run["seed"] if seed is None else seed}
            _check_same({name: given[name] for name in run}, run, f"the checkpoint {storage.last}")
            if state["step"] > options.steps:
                raise ValueError(
                    f"pygan.fit: steps must be at least those of the checkpoint {storage.last}, {state['step']}, "
                    f"got {options.steps}"
                )
            seed = run["seed"]
        elif seed is None:
            seed = int(torch.randint(2**63 - 1, ()))
        return seed, state, storage.last

    seed, state, storage.last = processes.from_main(find)
    return seed, state


def capture(run: Run) -> State:
    """All that `restore` needs, as plain data. Every process has to take part."""
    sampling, options = run.sampling, run.options
    states = run.processes.gather(random_state(run.processes.device))
    trained = run.trainer.state_dict()
    if not run.processes.is_main:
        return {}
    keeps = getattr(run.monitor, "state_dict", None)
    return {
        "step": run.step,
        "trainer": trained,
        "lr_schedulers": [scheduler.state_dict() for scheduler in options.lr_schedulers],
        "monitor": None if keeps is None else keeps(),
        "random": states,
        "grid": None if sampling.fixed is None else list(sampling.fixed),
        "run": {
            "batch_size": options.batch_size,
            "data": run.data.size,
            "drop_last": options.drop_last,
            "d_steps": run.trainer.d_steps,
            "seed": run.sampler.seed,
        },
        "config": {} if options.config is None else options.config,
        "versions": {
            "pygan": _pygan_version(),
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    }


def restore(run: Run, state: State) -> None:
    """Continue from a checkpoint's state.

    With another number of processes than it was written by, the generators that the networks draw from (dropout)
    are seeded anew: what they drew cannot be shared out.
    """
    options, processes = run.options, run.processes
    if len(state["lr_schedulers"]) != len(options.lr_schedulers):
        raise ValueError(
            f"pygan.fit: lr_schedulers must be as many as in the checkpoint, {len(state['lr_schedulers'])}, "
            f"got {len(options.lr_schedulers)}"
        )
    if run.monitor is not None and state["monitor"] is not None:
        # First: it may give the trainer noise, whose state is among the trainer's.
        run.monitor.load_state_dict(state["monitor"])
    run.trainer.load_state_dict(state["trainer"])
    for scheduler, its_state in zip(options.lr_schedulers, state["lr_schedulers"], strict=True):
        scheduler.load_state_dict(its_state)
    if state["grid"] is not None:
        latents, labels = state["grid"]
        run.sampling.fixed = latents, labels
    run.step = state["step"]
    if len(state["random"]) == processes.world:
        set_random_state(state["random"][processes.rank], processes.device)
    else:
        seed = derived_seed(run.sampler.seed, "resumed", run.step, processes.rank)
        seed_all(seed, processes.device)


def _check_same(given: State, wanted: State, whose: str) -> None:
    for name, value in wanted.items():
        if given[name] != value:
            raise ValueError(
                f"pygan.fit: {name} must be that of {whose}, {_told(name, value)}, got {_told(name, given[name])}"
            )


def _told(name: str, value: Any) -> str:
    return f"{value} samples" if name == "data" else str(value)


def _pygan_version() -> str:
    import pygan

    return pygan.__version__
