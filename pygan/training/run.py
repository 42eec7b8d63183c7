"""The loop of `fit`: steps, with logging, sample grids and checkpoints in between."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterable
from contextlib import closing, suppress
from typing import Any

import torch

from pygan import checkpoint
from pygan.trainer import GANTrainer, TrainStats
from pygan.training.callbacks import Callback, stateful
from pygan.training.checkpoint_contents import capture, check_savable, restore
from pygan.training.checkpoint_files import Storage
from pygan.training.checkpoint_settings import list_changes
from pygan.training.checks import checked_evaluation
from pygan.training.data import Data, Loaded
from pygan.training.fit_options import FitOptions
from pygan.training.loader_position import LoaderPosition
from pygan.training.lock import RunLock
from pygan.training.log import Log
from pygan.training.lr_schedulers import steps_of
from pygan.training.processes import Processes, restore_forward
from pygan.training.run_state import RunState
from pygan.training.signals import StopSignals
from pygan.training.starting_point import StartingPoint
from pygan.training.trackers import Trackers

__all__ = ["Run"]

_EARLY_GRIDS = (100, 200, 500)  # steps with sample grids in addition to the regular ones


class Run:
    """A run at its starting point: step 0, or a checkpoint.

    Args:
        trainer: the trainer of the prepared networks.
        options, data, processes, storage, lock, starting_point: see their classes.
    """

    def __init__(
        self,
        trainer: GANTrainer,
        options: FitOptions,
        data: Data,
        processes: Processes,
        storage: Storage,
        lock: RunLock,
        starting_point: StartingPoint,
    ) -> None:
        self.state = RunState(trainer, options, data, processes, storage, starting_point.settings)
        self.trainer, self.options, self.data, self.processes = trainer, options, data, processes
        self.storage, self.lock = storage, lock
        self.metrics: dict[str, float] = {}
        self.stopped_by: int | None = None
        self._to_capture = options.capture
        self._absent: list[str] = []
        if starting_point.state is not None:
            self._absent = restore(self.state, starting_point.state, starting_point.changed)
        self._init_message = (
            ""
            if starting_point.pretrained is None
            else starting_point.pretrained.load_into(trainer)
        )
        self._changed = starting_point.changed
        if options.sample_every is not None and (processes.is_main or trainer.is_sharded):
            self.state.sampling.fix(options.samples)
        check_savable(self.state)

    def train(self) -> None:
        """Train from the current step to the last one, or until a signal.

        Raises:
            RuntimeError: another process has ended.
        """
        log = None
        try:
            with StopSignals(obey_second=self.processes.world == 1) as signals:
                if self.processes.is_main:
                    log = self._open_log()
                self._catch_up(log)
                self._loop(signals, log)
                self.processes.wait()
        except BaseException as error:
            if log is not None:
                with suppress(OSError):  # report a full disk only once
                    log.close()
            if not self.processes.is_process_lost(error):
                raise
            last = checkpoint.latest(self.storage.folder)
            advice = "there is no checkpoint yet"
            if last is not None:
                advice = f"the last checkpoint is {last}, from which resume='auto' continues"
            raise RuntimeError(
                f"pygan.fit: another process ended, after step {self.state.step} of this one; {advice}"
            ) from error
        else:
            if log is not None:
                log.close()
        finally:
            if self.trainer.ema is not None:
                restore_forward(self.trainer.ema.module)

    def _open_log(self) -> Log:
        options = self.options
        options.folder.mkdir(parents=True, exist_ok=True)
        if self.lock.acquire() and self.state.step == 0:
            self.storage.refuse_another_run()  # one that started and ended since the folder was checked
        log = Log(
            options.folder,
            steps=options.steps,
            start=self.state.step,
            tensorboard=options.tensorboard,
            trackers=self._trackers,
            progress=options.progress,
            wait=self.processes.synchronize,
        )
        self.metrics = log.metrics.last
        if options.resume == "auto" and self.storage.last is None:
            log.say(
                f"pygan.fit: {options.folder} contains no checkpoint to resume from; starting a new run"
            )
        if self._init_message:
            log.say(f"pygan.fit: {self._init_message}")
        if isinstance(self.state.sampler, LoaderPosition) and self.state.sampler.batches_to_skip:
            log.say(
                f"pygan.fit: rereading and skipping the {self.state.sampler.batches_to_skip} batches of this epoch "
                "that have been trained on"
            )
        for change in list_changes(self._changed):
            log.say(f"pygan.fit: resumed at step {self.state.step} with {change}")
        if self._absent:
            log.say(
                f"pygan.fit: resumed at step {self.state.step} without {', '.join(self._absent)}: the checkpoint's "
                "state is not loaded, and the next checkpoint will not contain it"
            )
        return log

    def _trackers(self) -> Trackers:
        accelerator, options = self.processes.accelerator, self.options
        return Trackers(accelerator, options.log_with, options.folder, self.state.settings)

    def _catch_up(self, log: Log | None) -> None:
        """Write the grid of real samples and the samples of step 0; or, on resume, the outputs of the checkpoint's step
        that the earlier run did not get to."""

        def missing() -> tuple[bool, bool]:
            assert log is not None
            picture = log.picture_path(self.state.step)
            line = self.storage.resumed and self.metrics.get("step") != self.state.step
            return line, not picture.exists()

        line, picture = self.processes.from_main(missing)
        self._repeat_callbacks(log, evaluated=not line)
        if not line:
            self.state.numbers = None
        shows = log is not None and self.options.sample_every is not None
        if log is not None and shows and not log.reals_path.exists():
            reals = self.state.sampling.reals(self.options.preview, self.options.samples)
            if reals is not None:
                log.reals(reals)
        self._report(log, picture=picture and self._picture_due())

    def _repeat_callbacks(self, log: Log | None, *, evaluated: bool) -> None:
        """For callbacks with a state, repeat the calls after the checkpoint's step, because the state was saved before
        them. `evaluated`: include on_evaluate, if the step was evaluated."""
        if log is None or not self.storage.resumed:
            return
        callbacks = stateful(self.options.callbacks).values()
        self._call_on_checkpoint(callbacks)
        # If the line has only statistics, `evaluate` was not due.
        if evaluated and self.metrics.keys() > {"step", *(self.state.numbers or self.metrics)}:
            self._call_on_evaluate(callbacks)

    def _loop(self, signals: StopSignals, log: Log | None) -> None:
        options = self.options
        with closing(self._batches()) as batches:
            for loaded in batches:
                stats = self._iterate(loaded)
                self.state.step += 1
                self.state.guard.note(self.state.step, stats)
                for callback in options.callbacks:
                    callback.on_step(self.trainer, self.state.step, stats)
                logged, saved = self._due(options.log_every), self._due(options.checkpoint_every)
                if self.processes.world == 1 or logged or saved:
                    self.stopped_by = self.processes.max_over_processes(signals.received)
                self._diagnose(stats, log)
                self.state.numbers = None
                if (logged or self._evaluation_due()) and (
                    log is not None or self.trainer.is_sharded
                ):
                    self.state.numbers = self._numbers(stats)
                saved = saved or self.stopped_by is not None
                if logged or saved:
                    self._check(log)
                if saved:
                    # Before evaluation and preview, which are the user's code and may fail.
                    self._save(log)
                self._report(log, picture=self._picture_due())
                if log is not None:
                    log.progress.advance(self._next_picture())
                    if saved:
                        log.sync()
                if self.stopped_by:
                    if log is not None and self.state.numbers is None:
                        # For the result only: a resumed run writes the file that an uninterrupted one does.
                        self.metrics = {"step": self.state.step, **self._numbers(stats)}
                    break
        if self.stopped_by and log is not None:
            log.say(
                f"pygan.fit: stopped by {signal.Signals(self.stopped_by).name} after step {self.state.step}; "
                f"the checkpoint is {self.storage.last}"
            )

    def _check(self, log: Log | None) -> None:
        """Stop or roll back if the weights are no longer finite."""
        problem = self.state.guard.check(self.state.step)
        if problem is None:
            return
        try:
            answer = self.state.guard.respond(problem)
        except FloatingPointError:
            self._log_numbers(log)
            raise
        if log is not None:
            log.say(f"pygan.fit: {answer}")
            assert self.storage.last is not None
            log.metrics.write({"step": self.state.step, "rollback": self.storage.last.name})

    def _batches(self) -> Generator[list[Loaded], None, None]:
        """The batches of each remaining step."""
        each = self.trainer.d_steps
        batches = self.data.batches(
            self.state.sampler,
            self.state.step * each,
            self.options.steps * each,
            device=self.processes.device,
            workers=self.options.workers,
        )
        for _ in range(self.state.step, self.options.steps):
            yield [next(batches) for _ in range(each)]

    def _iterate(self, loaded: list[Loaded]) -> TrainStats:
        real: Any = [batch.real for batch in loaded]
        labels: Any = [batch.labels for batch in loaded]
        if len(loaded) == 1:
            real, labels = real[0], labels[0]
        elif labels[0] is None:
            labels = None
        total = [batch.total for batch in loaded] if self.processes.world > 1 else None
        if self._to_capture:
            self._to_capture = False
            self.trainer.capture(real, labels)
        try:
            stats = self.trainer.step(real, labels, total=total)
        except ValueError as error:
            single = not self.options.drop_last and any(len(batch.real) == 1 for batch in loaded)
            if not single or "Expected more than 1 value per channel" not in str(error):
                raise
            raise ValueError(
                "pygan.fit: drop_last must be True if BatchNorm gets a single sample, as at the end of an epoch with "
                f"batches of {self.options.batch_size}, got False: {error}"
            ) from error
        # Before `discriminator_start`, the discriminator sees neither samples nor noise, and its schedules wait.
        steps, start = self.trainer.steps, self.trainer.discriminator_start
        is_adversarial = steps > start
        for scheduler in self.options.lr_schedulers:
            if is_adversarial or steps_of(scheduler, steps, self.trainer.d_optimizer, start):
                scheduler.step()
        if self.trainer.noise is not None and is_adversarial:
            self.trainer.noise.step(stats.real_sign)
        return stats

    def _due(self, every: int | None) -> bool:
        """Whether an action is due that happens every `every` steps and at the end; None: only at the end."""
        last = self.state.step == self.options.steps
        return last or (every is not None and self.state.step % every == 0)

    def _evaluation_due(self) -> bool:
        return self.options.evaluate is not None and self._due(self.options.evaluate_every)

    def _picture_due(self) -> bool:
        every = self.options.sample_every
        if every is None:
            return False
        return self._due(every) or (self.state.step in _EARLY_GRIDS and self.state.step < every)

    def _next_picture(self) -> int | None:
        every, step = self.options.sample_every, self.state.step
        if every is None:
            return None
        early = [n for n in _EARLY_GRIDS if step < n < every]
        return min(*early, (step // every + 1) * every, self.options.steps)

    def _diagnose(self, stats: TrainStats, log: Log | None) -> None:
        if self.state.monitor is None:
            return
        for diagnosis in self.state.monitor.update(stats):
            if log is not None:
                log.diagnosis(self.state.step, diagnosis)

    def _report(self, log: Log | None, *, picture: bool) -> None:
        """Log the numbers, the evaluation and the sample grid if they are due. In processes without a log, only take
        part in drawing the samples, which sharded networks require."""
        if self.state.numbers is not None:
            if self.options.evaluate is not None and self._evaluation_due():
                found = self.state.sampling.evaluation(self.options.evaluate, self.state.step)
                self.state.numbers = {**self.state.numbers, **checked_evaluation(found)}
            self._log_numbers(log)
            if log is not None and self._evaluation_due():
                self._call_on_evaluate(self.options.callbacks)
        if picture and (log is not None or self.trainer.is_sharded):
            grid = self.state.sampling.picture(
                self.options.preview, None if log is None else log.say, step=self.state.step
            )
            if grid is not None and log is not None:
                log.picture(self.state.step, grid)

    def _log_numbers(self, log: Log | None) -> None:
        if log is not None and self.state.numbers is not None:
            log.numbers(self.state.step, self.state.numbers)
            self.metrics = {"step": self.state.step, **self.state.numbers}

    def _numbers(self, stats: TrainStats) -> dict[str, float]:
        """The numbers to log, read from the device in one transfer."""
        tensors = stats._asdict()
        terms = getattr(stats, "terms", {})
        tensors.update((f"terms/{name}", value) for name, value in terms.items())
        if self.trainer.noise is not None:
            tensors["sigma"] = self.trainer.noise.sigma
        device = self.processes.device
        table = torch.stack([x.detach().to(device, torch.float64) for x in tensors.values()])
        values = dict(zip(tensors, table.tolist(), strict=True))
        if self.options.lr_schedulers:
            values["g_lr"] = float(self.trainer.g_optimizer.param_groups[0]["lr"])
            values["d_lr"] = float(self.trainer.d_optimizer.param_groups[0]["lr"])
        if self.state.guard.counts_skips:
            values["skipped"] = self.state.guard.skipped
        return values

    def _save(self, log: Log | None) -> None:
        state = capture(self.state)
        if log is not None:
            log.sync()  # so that metrics are never missing before an existing checkpoint
            self.storage.save(self.state.step, state)
            self._call_on_checkpoint(self.options.callbacks)
        self.storage.last = self.storage.path(self.state.step)

    def _call_on_checkpoint(self, callbacks: Iterable[Callback]) -> None:
        for callback in callbacks:
            callback.on_checkpoint(
                self.trainer, self.state.step, self.storage.path(self.state.step)
            )

    def _call_on_evaluate(self, callbacks: Iterable[Callback]) -> None:
        for callback in callbacks:
            callback.on_evaluate(self.trainer, self.state.step, dict(self.metrics))
