"""Monitor: takes a reading every `every` steps, and evaluates it once it has arrived on the host."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch

from pygan._validation import check_int
from pygan.modules import InstanceNoise
from pygan.monitor import nonfinite
from pygan.monitor.reading import Reading, Transfer
from pygan.monitor.rules import RULES
from pygan.monitor.states import REMEDIES, Diagnosis, State
from pygan.monitor.window import Window
from pygan.trainer import GANTrainer, TrainStats

__all__ = ["Monitor"]

_FIXED_BY_NOISE = (State.SUPPORTS_DISJOINT, State.DISCRIMINATOR_WON)


class Monitor:
    """Detects problems in a trainer's training, gives the evidence, and proposes a remedy.

        monitor = pygan.Monitor(trainer)
        for real in loader:
            stats = trainer.step(real)
            for diagnosis in monitor.update(stats):
                print(diagnosis)

    Every `every` steps, it reads the statistics of these steps, the norms of gradients and parameters, and the
    diversity of the generated and the real samples (the first 64 of the last batches); other steps
    cost a few microseconds. On CUDA, the reading is copied to pinned memory behind an event, and evaluated in the
    first `update` after it has arrived, so the monitor never synchronizes, and a diagnosis may come some steps late. It
    records the step that it applies to. On other devices, readings are evaluated immediately.

    A state is reported when it is entered, and again only after it has been left. The rules use means over `window`
    readings, so the first diagnosis (except for non-finite values) comes after at least every * window steps. Rules
    that have no meaning for the trainer's loss are off: see docs/monitor.md.

    Args:
        trainer: the trainer whose `step` returns the statistics.
        every: steps per reading, at least 1.
        window: readings per window, at least 16. Detectable oscillations have periods from 5 * every to
            every * window steps.
        noise: :class:`pygan.InstanceNoise` to give the trainer, if it has none, as soon as the monitor finds disjoint
            supports or a discriminator that has won. Each reading is then evaluated exactly when the next is taken,
            with a synchronization if necessary, so that the noise starts at the same step in every run and process.
        on_diagnosis: called with each diagnosis, before `update` returns it.

    Attributes:
        states: the current states, as of the newest evaluated reading: a dict from :class:`State` to the
            diagnosis with which the state was entered.

    With several processes, the statistics cover all of them, but the samples and the norms of sharded parameters are
    the process's own, so diagnoses that depend on these can differ.

    Raises:
        TypeError, ValueError: an invalid argument.
    """

    def __init__(
        self,
        trainer: GANTrainer,
        *,
        every: int = 10,
        window: int = 50,
        noise: InstanceNoise | None = None,
        on_diagnosis: Callable[[Diagnosis], object] | None = None,
    ) -> None:
        if not isinstance(trainer, GANTrainer):
            raise TypeError(
                f"Monitor: trainer must be a pygan.GANTrainer, got {type(trainer).__name__}"
            )
        for name, value, least in (("every", every, 1), ("window", window, 16)):
            check_int("Monitor", name, value, least)
        if noise is not None and not isinstance(noise, InstanceNoise):
            raise TypeError(
                f"Monitor: noise must be a pygan.InstanceNoise or None, got {type(noise).__name__}"
            )
        if on_diagnosis is not None and not callable(on_diagnosis):
            raise TypeError(
                f"Monitor: on_diagnosis must be a callable or None, got {type(on_diagnosis).__name__}"
            )
        self.trainer, self.every, self.noise, self.on_diagnosis = (
            trainer,
            every,
            noise,
            on_diagnosis,
        )
        self.states: dict[State, Diagnosis] = {}
        self._window = Window(window, trainer.loss)
        self._block: list[tuple[int, TrainStats]] = []
        self._in_transfer: deque[Transfer | Reading] = deque()

    def update(self, stats: TrainStats) -> list[Diagnosis]:
        """Process the statistics of one step; call it after each step, before the next.

        Returns:
            The states entered, from the readings that have arrived; usually none.
        """
        if not isinstance(stats, TrainStats):
            raise TypeError(
                f"Monitor.update: stats must be the result of GANTrainer.step, got {type(stats).__name__}"
            )
        if self.trainer.steps <= self.trainer.discriminator_start:  # no adversarial training yet
            return []
        self._block.append((self.trainer.steps, stats))
        due = len(self._block) >= self.every
        found: list[Diagnosis] = []
        if due and self.noise is not None and self._in_transfer:
            found = self._evaluate(self._in_transfer.popleft().read())
        if due:
            self._in_transfer.append(Transfer(self._block, self.trainer))
            self._block = []
        while self.noise is None and self._in_transfer and self._in_transfer[0].ready():
            found += self._evaluate(self._in_transfer.popleft().read())
        if self.on_diagnosis is not None:
            for diagnosis in found:
                self.on_diagnosis(diagnosis)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Everything that later diagnoses depend on, as tensors, numbers and strings. Synchronizes with the device."""
        return {
            "every": self.every,
            "window": self._window.state_dict(),
            "coming": [transfer.read()._asdict() for transfer in self._in_transfer],
            "block_steps": [step for step, _ in self._block],
            "block": [torch.stack(list(stats)).cpu() for _, stats in self._block],
            "states": [
                {**asdict(found), "state": found.state.value} for found in self.states.values()
            ],
            "noise_applied": self.noise is not None and self.trainer.noise is self.noise,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from where `state_dict` was saved. Call it before the trainer's load_state_dict: it restores noise
        that the monitor had given to the trainer, which then loads the noise's state.

        Raises:
            ValueError: `every`, `window` or `noise` differs from when it was saved.
        """
        window = state_dict["window"]
        for name, mine, saved in (
            ("every", self.every, state_dict["every"]),
            ("window", self._window.size, window["size"]),
        ):
            if mine != saved:
                raise ValueError(
                    f"Monitor.load_state_dict: {name} must be the saved value, {saved}, got {mine}"
                )
        if state_dict["noise_applied"] and self.noise is None:
            raise ValueError(
                "Monitor.load_state_dict: noise must be given, because the saved monitor had applied it, got None"
            )
        self._window.load_state_dict(window)
        self._in_transfer = deque(Reading(**reading) for reading in state_dict["coming"])
        device = next(self.trainer.discriminator.parameters()).device
        self._block = [
            (step, TrainStats(*values.to(device).unbind()))
            for step, values in zip(state_dict["block_steps"], state_dict["block"], strict=True)
        ]
        held = [Diagnosis(**{**one, "state": State(one["state"])}) for one in state_dict["states"]]
        self.states = {diagnosis.state: diagnosis for diagnosis in held}
        if state_dict["noise_applied"]:
            self.trainer.noise = self.noise

    def _evaluate(self, reading: Reading) -> list[Diagnosis]:
        """The states entered with this reading."""
        broken = nonfinite.find(reading)
        if broken is not None:
            # The other states stay unchanged, because their measures have no meaning now.
            return self._enter(broken)
        self.states.pop(State.NON_FINITE, None)
        self._window.add(reading)
        self._window.ends_in_sigmoid = bool(self.trainer.ends_in_sigmoid)
        entered: list[Diagnosis] = []
        if not self._window.full:
            return entered
        for state, rule in RULES.items():
            finding = rule(self._window, state in self.states)
            if finding is None:
                self.states.pop(state, None)
            else:
                step, remedy = self._window.step, REMEDIES[state]
                entered += self._enter(
                    Diagnosis(state, step, finding.evidence, remedy, {**finding.numbers})
                )
        return entered

    def _enter(self, diagnosis: Diagnosis) -> list[Diagnosis]:
        state = diagnosis.state
        if state in self.states:
            return []
        if state in _FIXED_BY_NOISE and self.noise is not None and self.trainer.noise is None:
            self.trainer.noise = self.noise.to(next(self.trainer.discriminator.parameters()).device)
            diagnosis = replace(
                diagnosis,
                action=f"instance noise was added to the trainer ({self.noise.schedule}).",
            )
        self.states[state] = diagnosis
        return [diagnosis]
