"""The loop of `fit`: step after step, with what is to be logged, shown and saved in between."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import closing
from typing import Any

import torch

from pygan import checkpoint
from pygan.monitor import Monitor
from pygan.trainer import GANTrainer, TrainStats
from pygan.training.data import Data, Loaded
from pygan.training.log import Log
from pygan.training.options import Options, checked_evaluation
from pygan.training.processes import Processes, restore_forward
from pygan.training.sampler import BatchSampler
from pygan.training.sampling import Sampling
from pygan.training.signals import StopSignals
from pygan.training.state import capture
from pygan.training.storage import Storage

__all__ = ["Run"]


class Run:
    """A run, at the beginning.

    Args:
        trainer: of the prepared networks.
        options, data, processes, storage: as their classes say.
        seed: of the data's order and the samples.
    """

    def __init__(
        self,
        trainer: GANTrainer,
        options: Options,
        data: Data,
        processes: Processes,
        storage: Storage,
        seed: int,
    ) -> None:
        self.trainer, self.options, self.data, self.processes = trainer, options, data, processes
        self.storage = storage
        if trainer.noise is not None:
            trainer.noise.to(processes.device)
        self.sampler = BatchSampler(
            data.size,
            options.batch_size,
            seed=seed,
            rank=processes.rank,
            world=processes.world,
            drop_last=options.drop_last,
        )
        self.sampling = Sampling(
            trainer, data, seed=seed, batch_size=options.batch_size, device=processes.device
        )
        self.monitor = options.monitor
        if isinstance(options.monitor, bool):
            self.monitor = Monitor(trainer) if options.monitor and processes.is_main else None
        elif isinstance(options.monitor, type) or not hasattr(options.monitor, "update"):
            self.monitor = options.monitor(trainer)
        self.step = 0
        self.metrics: dict[str, float] = {}
        self.stopped_by: int | None = None

    def train(self) -> None:
        """From the step that has been reached to the last, or to a signal.

        Raises:
            RuntimeError: another process has ended.
        """
        log = None
        try:
            with StopSignals(obey_second=self.processes.world == 1) as signals:
                if self.processes.is_main:
                    log = self._open_log()
                self._loop(signals, log)
                self.processes.wait()
        except RuntimeError as error:
            if not self.processes.lost(error):
                raise
            last = checkpoint.latest(self.storage.folder)
            advice = "there is no checkpoint yet"
            if last is not None:
                advice = f"the last checkpoint is {last}, from which resume='auto' continues"
            raise RuntimeError(
                f"pygan.fit: another process ended, after step {self.step} of this one; {advice}"
            ) from error
        finally:
            if log is not None:
                log.close()
            if self.trainer.ema is not None:
                restore_forward(self.trainer.ema.module)

    def _open_log(self) -> Log:
        options = self.options
        options.out.mkdir(parents=True, exist_ok=True)
        log = Log(
            options.out,
            steps=options.steps,
            start=self.step,
            tensorboard=options.tensorboard,
            progress=options.progress,
        )
        self.metrics = log.metrics.last
        return log

    def _loop(self, signals: StopSignals, log: Log | None) -> None:
        with closing(self._batches()) as batches:
            for loaded in batches:
                stats = self._iterate(loaded)
                self.step += 1
                last = self.step == self.options.steps
                logged = last or self._due(self.options.log_every)
                saved = last or self._due(self.options.checkpoint_every)
                if self.processes.world == 1 or logged or saved:
                    self.stopped_by = self.processes.agree(signals.received)
                self._diagnose(stats, log)
                if log is not None or self.trainer.is_sharded:
                    self._report(stats, log, logged=logged, last=last)
                if log is not None:
                    log.advance()
                if saved or self.stopped_by:
                    self._save(log)
                if self.stopped_by:
                    break
        if self.stopped_by and log is not None:
            log.say(
                f"pygan.fit: stopped by {signal.Signals(self.stopped_by).name} after step {self.step}; "
                f"the checkpoint is {self.storage.last}"
            )

    def _batches(self) -> Generator[list[Loaded], None, None]:
        """The batches of each step that is left."""
        each = self.trainer.d_steps
        batches = self.data.batches(
            self.sampler,
            self.step * each,
            self.options.steps * each,
            device=self.processes.device,
            workers=self.options.workers,
        )
        for _ in range(self.step, self.options.steps):
            yield [next(batches) for _ in range(each)]

    def _iterate(self, loaded: list[Loaded]) -> TrainStats:
        real: Any = [batch.real for batch in loaded]
        labels: Any = [batch.labels for batch in loaded]
        if len(loaded) == 1:
            real, labels = real[0], labels[0]
        elif labels[0] is None:
            labels = None
        total = [batch.total for batch in loaded] if self.processes.world > 1 else None
        stats = self.trainer.step(real, labels, total=total)
        for scheduler in self.options.lr_schedulers:
            scheduler.step()
        if self.trainer.noise is not None:
            self.trainer.noise.step(stats.real_sign)
        return stats

    def _due(self, every: int | None) -> bool:
        return every is not None and self.step % every == 0

    def _diagnose(self, stats: TrainStats, log: Log | None) -> None:
        if self.monitor is None:
            return
        for diagnosis in self.monitor.update(stats):
            if log is not None:
                log.diagnosis(self.step, diagnosis)

    def _report(self, stats: TrainStats, log: Log | None, *, logged: bool, last: bool) -> None:
        """The metrics, the evaluation and the sample grid, where they are due. Without a log their samples, which
        are drawn from sharded networks by all processes together."""
        options = self.options
        evaluate = options.evaluate if last or self._due(options.evaluate_every) else None
        if logged or evaluate is not None:
            values = self._numbers(stats)
            if evaluate is not None:
                values.update(checked_evaluation(self.sampling.evaluation(evaluate, self.step)))
            if log is not None:
                log.numbers(self.step, values)
                self.metrics = {"step": self.step, **values}
        if options.sample_every is not None and (last or self._due(options.sample_every)):
            picture = self.sampling.picture(options.samples, options.preview)
            if picture is not None and log is not None:
                log.picture(self.step, picture)

    def _numbers(self, stats: TrainStats) -> dict[str, float]:
        """What there is to log, read from the device at once."""
        tensors = stats._asdict()
        if self.trainer.noise is not None:
            tensors["sigma"] = self.trainer.noise.sigma
        device = self.processes.device
        table = torch.stack([x.detach().to(device, torch.float64) for x in tensors.values()])
        values = dict(zip(tensors, table.tolist(), strict=True))
        if self.options.lr_schedulers:
            values["g_lr"] = float(self.trainer.g_optimizer.param_groups[0]["lr"])
            values["d_lr"] = float(self.trainer.d_optimizer.param_groups[0]["lr"])
        return values

    def _save(self, log: Log | None) -> None:
        state = capture(self)
        if log is not None:
            log.sync()  # or the checkpoint could be there, and the metrics before it not
            self.storage.save(self.step, state)
        self.storage.last = self.storage.path(self.step)
