"""RunState: the components and the progress of a `fit` run, which a checkpoint saves and restores."""

from __future__ import annotations

from typing import Any

from pygan.monitor import Monitor
from pygan.trainer import GANTrainer
from pygan.training.checkpoint_files import Storage
from pygan.training.checkpoint_settings import Settings
from pygan.training.data import Data
from pygan.training.fit_options import FitOptions
from pygan.training.nonfinite_policy import NonfiniteGuard
from pygan.training.processes import Processes
from pygan.training.run_samples import Sampling

__all__ = ["RunState"]


class RunState:
    """A run at step 0.

    Args:
        trainer: the trainer of the prepared networks. options, data, processes, storage, settings: see their classes.

    Attributes:
        step: iterations done.
        numbers: the numbers to log for this step, if logging is due.
    """

    def __init__(
        self,
        trainer: GANTrainer,
        options: FitOptions,
        data: Data,
        processes: Processes,
        storage: Storage,
        settings: Settings,
    ) -> None:
        self.trainer, self.options, self.processes = trainer, options, processes
        self.storage, self.settings = storage, settings
        seed = settings["seed"]
        if trainer.noise is not None:
            trainer.noise.to(processes.device)
        assert options.batch_size is not None  # set by fit
        self.sampler = data.order(
            options.batch_size,
            seed=seed,
            rank=processes.rank,
            world=processes.world,
            drop_last=options.drop_last,
        )
        self.sampling = Sampling(
            trainer, data, seed=seed, batch_size=options.batch_size, device=processes.device
        )
        self.monitor: Any = options.monitor
        if isinstance(options.monitor, bool):
            self.monitor = Monitor(trainer) if options.monitor and processes.is_main else None
        elif isinstance(options.monitor, type) or not hasattr(options.monitor, "update"):
            self.monitor = options.monitor(trainer)
        self.guard = NonfiniteGuard(trainer, storage, processes, options.nonfinite)
        self.step = 0
        self.numbers: dict[str, float] | None = None
