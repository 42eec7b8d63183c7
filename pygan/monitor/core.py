"""Monitor: takes a reading at every `every`-th step, and looks at it once it has arrived."""

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

_MENDED_BY_NOISE = (State.SUPPORTS_DISJOINT, State.DISCRIMINATOR_WON)


class Monitor:
    """Names the state of a trainer's training, with the evidence, and proposes a remedy.

        monitor = pygan.Monitor(trainer)
        for real in loader:
            stats = trainer.step(real)
            for diagnosis in monitor.update(stats):
                print(diagnosis)

    At every `every`-th step it reads the statistics of the steps since, the norms of gradients and parameters, and how
    varied the generated and the real samples are (of the last batches, the first 64 samples of each); the other steps
    cost it a few microseconds. On CUDA the reading is copied to pinned memory behind an event, and looked at in the
    first `update` that finds it there: nothing ever waits, and a diagnosis may come some steps late. It carries the
    step that it is of. Elsewhere a reading is looked at at once.

    A state is reported when it is entered, and again only after it was left. The rules look at means over `window`
    readings, so the first diagnosis (but for non-finite values) comes after every * window steps at the earliest. Rules
    that have no meaning for the trainer's loss are off: see docs/monitor.md.

    Args:
        trainer: its `step` makes the statistics.
        every: steps per reading, at least 1.
        window: readings per window, at least 16. The slowest oscillation that is found has a period of
            every * window steps, the quickest one of 5 * every.
        noise: :class:`pygan.InstanceNoise` to give the trainer, if it has none, as soon as the supports are found to be
            disjoint or the discriminator to have won. So that every run and every process begins with it at the same
            step, each reading is then looked at exactly when the next is taken, and waited for if need be.
        on_diagnosis: called with each diagnosis, before `update` returns it.

    Attributes:
        states: those that hold, as of the newest reading that was looked at: a dict from :class:`State` to the
            diagnosis with which it was entered.

    Where processes share the training, the statistics are those of all of them, but the samples are the process's own,
    and so are the norms of sharded parameters: diagnoses can differ in what depends on these.

    Raises:
        TypeError, ValueError: an argument that is not as described.
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
        self._coming: deque[Transfer | Reading] = deque()

    def update(self, stats: TrainStats) -> list[Diagnosis]:
        """Take in what one step of the trainer returned; to be called after each step, before the next.

        Returns:
            The states that were entered, as far as the readings have arrived; usually none.
        """
        if not isinstance(stats, TrainStats):
            raise TypeError(
                f"Monitor.update: stats must be what GANTrainer.step returns, got {type(stats).__name__}"
            )
        if self.trainer.steps <= self.trainer.discriminator_start:  # nothing adversarial happened
            return []
        self._block.append((self.trainer.steps, stats))
        due = len(self._block) >= self.every
        found: list[Diagnosis] = []
        if due and self.noise is not None and self._coming:
            found = self._look(self._coming.popleft().read())
        if due:
            self._coming.append(Transfer(self._block, self.trainer))
            self._block = []
        while self.noise is None and self._coming and self._coming[0].ready():
            found += self._look(self._coming.popleft().read())
        if self.on_diagnosis is not None:
            for diagnosis in found:
                self.on_diagnosis(diagnosis)
        return found

    def state_dict(self) -> dict[str, Any]:
        """All that later diagnoses depend on, as tensors, numbers and strings. Waits for the device."""
        return {
            "every": self.every,
            "window": self._window.state_dict(),
            "coming": [transfer.read()._asdict() for transfer in self._coming],
            "block_steps": [step for step, _ in self._block],
            "block": [torch.stack(list(stats)).cpu() for _, stats in self._block],
            "states": [
                {**asdict(found), "state": found.state.value} for found in self.states.values()
            ],
            "noise_applied": self.noise is not None and self.trainer.noise is self.noise,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken. Before the trainer's own: it gives the trainer the noise that the
        monitor had given it, whose state the trainer then loads.

        Raises:
            ValueError: `every`, `window` or `noise` are others than when it was taken.
        """
        window = state_dict["window"]
        for name, mine, saved in (
            ("every", self.every, state_dict["every"]),
            ("window", self._window.size, window["size"]),
        ):
            if mine != saved:
                raise ValueError(
                    f"Monitor.load_state_dict: {name} must be what it was, {saved}, got {mine}"
                )
        if state_dict["noise_applied"] and self.noise is None:
            raise ValueError(
                "Monitor.load_state_dict: noise must be given, as it was to the monitor that applied it, got None"
            )
        self._window.load_state_dict(window)
        self._coming = deque(Reading(**reading) for reading in state_dict["coming"])
        device = next(self.trainer.discriminator.parameters()).device
        self._block = [
            (step, TrainStats(*values.to(device).unbind()))
            for step, values in zip(state_dict["block_steps"], state_dict["block"], strict=True)
        ]
        held = [Diagnosis(**{**one, "state": State(one["state"])}) for one in state_dict["states"]]
        self.states = {diagnosis.state: diagnosis for diagnosis in held}
        if state_dict["noise_applied"]:
            self.trainer.noise = self.noise

    def _look(self, reading: Reading) -> list[Diagnosis]:
        """The states that are entered with this reading."""
        broken = nonfinite.find(reading)
        if broken is not None:
            # The other states stay as they were: their measures mean nothing now.
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
        if state in _MENDED_BY_NOISE and self.noise is not None and self.trainer.noise is None:
            self.trainer.noise = self.noise.to(next(self.trainer.discriminator.parameters()).device)
            diagnosis = replace(
                diagnosis,
                action=f"the trainer has instance noise from now on ({self.noise.schedule}).",
            )
        self.states[state] = diagnosis
        return [diagnosis]
