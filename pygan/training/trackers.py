"""Experiment trackers through accelerate: Weights & Biases, MLflow and others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pygan.training.extras import extra

__all__ = ["Trackers", "check_initialized", "check_trackers"]


def check_trackers(log_with: Any) -> list[Any]:
    """The names and trackers in the option, as a list.

    Raises:
        TypeError, ValueError: something else, an unknown name, or the tracker that `fit` already has.
        ImportError: the package of a tracker is not installed.
    """
    if log_with is None:
        return []
    tracking = extra("accelerate.tracking", "pygan.fit(log_with=...)")
    chosen = list(log_with) if isinstance(log_with, (list, tuple)) else [log_with]
    for one in chosen:
        if isinstance(one, tracking.GeneralTracker):
            continue
        if not isinstance(one, str):
            raise TypeError(
                "pygan.fit: log_with must be names of trackers, or accelerate.tracking.GeneralTracker, got "
                f"{type(one).__name__}"
            )
        known = sorted(set(tracking.LOGGER_TYPE_TO_CLASS) - {"tensorboard"})
        if one == "tensorboard":
            raise ValueError(
                "pygan.fit: log_with must name trackers other than tensorboard, got 'tensorboard'; use "
                "tensorboard=True"
            )
        if one not in known:
            raise ValueError(f"pygan.fit: log_with must be one of {', '.join(known)}, got {one!r}")
        if one not in map(str, tracking.get_available_trackers()):
            raise ImportError(
                f"pygan.fit: log_with must be a tracker whose package is installed, got {one!r}"
            )
    return chosen


def check_initialized(accelerator: Any, log_with: Any) -> None:
    """Check that each tracker gets the metrics exactly once. Call it in the main process, the only one in which
    accelerate initializes trackers.

    Raises:
        ValueError: the accelerator's trackers have not been initialized, or `log_with` contains one that has been.
    """
    named = [one if isinstance(one, str) else one.name for one in accelerator.log_with]
    if named and not accelerator.trackers:
        raise ValueError(
            "pygan.fit: accelerator must have its trackers initialized, by accelerator.init_trackers(...), got "
            f"log_with={', '.join(map(str, named))} alone; or pass log_with= to fit instead"
        )
    for one in check_trackers(log_with):
        if any(one is other or one == other.name for other in accelerator.trackers):
            raise ValueError(
                "pygan.fit: log_with must not contain a tracker that the accelerator has initialized and that "
                f"already gets the metrics, got {one if isinstance(one, str) else one.name!r}"
            )


class Trackers:
    """The trackers of a run: those started here, which end with the run, and those that the user initialized with an
    accelerator.

    Args:
        accelerator: the accelerator of the run; its own trackers stay open at the end.
        log_with: additional trackers to start.
        out: the run's folder, after which the trackers name their project.
        config: the configuration that the trackers store.
    """

    def __init__(self, accelerator: Any, log_with: Any, out: Path, config: dict[str, Any]) -> None:
        self._trackers = list(accelerator.trackers)
        self._started: list[Any] = []
        classes = extra("accelerate.tracking", "pygan.fit").LOGGER_TYPE_TO_CLASS
        for one in check_trackers(log_with):
            tracker = one
            if isinstance(one, str):
                needs_folder = classes[one].requires_logging_directory
                tracker = classes[one](*(out.resolve().name, *[str(out)] * needs_folder))
            self._started.append(tracker)
            tracker.start()
            tracker.store_init_configuration(config)
        self._trackers += self._started

    def numbers(self, step: int, values: dict[str, float]) -> None:
        """Log one line of metrics."""
        for tracker in self._trackers:
            tracker.log(values, step=step)

    def picture(self, step: int, array: NDArray[np.uint8]) -> None:
        """Log the sample grid (H, W, C) to the trackers that accept a list of arrays; each of the others accepts
        something else."""
        for tracker in self._trackers:
            if tracker.name in ("wandb", "swanlab"):
                tracker.log_images({"samples": [array]}, step=step)

    def close(self) -> None:
        for tracker in self._started:
            tracker.finish()
