"""The starting point of a `fit` run: step 0, or a checkpoint."""

from __future__ import annotations

from typing import Any

import torch

from pygan.training.checkpoint_files import Storage
from pygan.training.checkpoint_settings import Settings, changes, describe_changes
from pygan.training.fit_options import FitOptions
from pygan.training.lock import RunLock
from pygan.training.processes import Processes
from pygan.training.trackers import check_initialized
from pygan.training.weights import PretrainedRun

__all__ = ["StartingPoint", "find_starting_point"]


class StartingPoint:
    """Where a run begins.

    Attributes:
        settings: the settings of the run, with its seed.
        state: the state in the checkpoint, if the run is resumed.
        changed: the settings that differ from the checkpoint's, by name: (before, now).
        pretrained: the run whose networks this one starts from, if it is not resumed.
    """

    def __init__(
        self,
        settings: Settings,
        state: dict[str, Any] | None,
        changed: dict[str, Any],
        pretrained: PretrainedRun | None,
    ) -> None:
        self.settings, self.state, self.changed, self.pretrained = (
            settings,
            state,
            changed,
            pretrained,
        )


def find_starting_point(
    options: FitOptions, settings: Settings, processes: Processes, storage: Storage, lock: RunLock
) -> StartingPoint:
    """Find the checkpoint in the main process, and broadcast it to the others.

    Raises:
        ValueError: the checkpoint is from a run with other settings, the processes were given different arguments, or a
            tracker would get no metrics or get them twice.
        BlockingIOError: another run is writing into the folder.
        NotADirectoryError: `out` is a file.
        CheckpointError: there is no usable checkpoint to resume from, or for `init_from`.
    """
    arguments = {**settings, "steps": options.steps, "sharded": options.sharded}
    for rank, theirs in enumerate(processes.gather(arguments)):
        names = [*arguments, *(name for name in theirs if name not in arguments)]
        differ = {name: (theirs.get(name), arguments.get(name)) for name in names}
        differ = {name: both for name, both in differ.items() if both[0] != both[1]}
        if differ:
            raise ValueError(f"pygan.fit: {describe_changes(differ, f'process {rank}')}")

    def find() -> tuple[StartingPoint, Any]:
        check_initialized(processes.accelerator, options.log_with)
        if options.folder.is_dir():
            lock.acquire()
        elif options.folder.exists():
            raise NotADirectoryError(
                f"pygan.fit: out must be a folder, got the file {options.folder}"
            )
        state, changed = storage.find(options.resume), {}
        seed = settings["seed"]
        if state is not None:
            if seed is None:
                seed = state["run"]["seed"]
            # Checkpoints of earlier versions have fewer settings.
            before = {"lr_schedulers.length": len(state["lr_schedulers"]), **state["run"]}
            original = before.get("init_from")
            if settings["init_from"] not in (None, original):
                raise ValueError(
                    f"pygan.fit: init_from must be None when the checkpoint {storage.last} is resumed, or that of its "
                    f"run, {original}, got {settings['init_from']}"
                )
            settings["init_from"] = original
            changed = changes({**settings, "seed": seed}, before)
            if changed and not options.allow_changes:
                raise ValueError(
                    f"pygan.fit: {describe_changes(changed, f'the checkpoint {storage.last}')}; allow_changes=True "
                    "continues with the new settings"
                )
            if state["step"] > options.steps:
                raise ValueError(
                    f"pygan.fit: steps must be at least those of the checkpoint {storage.last}, {state['step']}, "
                    f"got {options.steps}"
                )
        elif seed is None:
            seed = int(torch.randint(2**63 - 1, ()))
        pretrained = None
        if state is None and options.init_from is not None:
            pretrained = PretrainedRun(options.init_from)
        return StartingPoint({**settings, "seed": seed}, state, changed, pretrained), storage.last

    starting_point: StartingPoint
    starting_point, storage.last = processes.from_main(find)
    return starting_point
