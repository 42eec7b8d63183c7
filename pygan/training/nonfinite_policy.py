"""The response of `fit` to non-finite weights: stop, skip updates, or roll back."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from pygan import checkpoint
from pygan.monitor import nonfinite as diagnosis
from pygan.monitor.reading import Transfer
from pygan.trainer import GANTrainer, TrainStats
from pygan.training.find_nonfinite import all_finite, broken_parts

if TYPE_CHECKING:
    from pygan.training.checkpoint_files import Storage
    from pygan.training.processes import Processes

__all__ = ["POLICIES", "Watch"]

POLICIES = ("stop", "skip", "rollback")
_IN_VAIN = 3
_SKIPPED_IN_A_ROW = 100
# They go on when the rest is rolled back, or the run would come to the same values again.
_ONWARD = ("steps", "d_updates", "stream", "latent", "noise", "scaler")


class Problem(NamedTuple):
    """Values that are not finite."""

    what: str
    cause: str
    """A sentence of the monitor's, or nothing."""


class Watch:
    """Looks at the state of a run where the run waits for the device anyway.

    Args:
        trainer, storage, processes: of the run.
        policy: one of POLICIES. "skip" gives the trainer a condition for its updates, unless it has a scaler, which
            leaves out such updates by itself.
    """

    def __init__(
        self, trainer: GANTrainer, storage: Storage, processes: Processes, policy: str
    ) -> None:
        self.trainer, self.storage, self.processes, self.policy = (
            trainer,
            storage,
            processes,
            policy,
        )
        self.skipped = 0
        """Updates that were left out."""
        self._in_a_row: dict[int, int] = {}  # by the network's first parameter
        self.rollbacks = 0
        """Since the last checkpoint before which there was none."""
        self._rolled_back = False
        self._beginning: dict[str, Any] | None = None
        # References to what the steps returned anyway: to tell at which of them, and in which network, it began.
        self._recent: list[tuple[int, TrainStats]] = []
        self.counts_skips = policy == "skip" and trainer.scaler is None
        if self.counts_skips:
            trainer.update_if = self._finite_gradients

    def note(self, step: int, stats: TrainStats) -> None:
        """Take in what a step returned. Does not wait for the device."""
        self._recent.append((step, stats))

    def check(self, step: int) -> Problem | None:
        """What is wrong with the state after a step; None, in every process alike, if all of it is finite."""
        parts = broken_parts(self.trainer)
        if not self.processes.agree(int(bool(parts))):
            self._recent.clear()
            return None
        where = ", ".join(parts) or "another process"
        found = diagnosis.find(Transfer(self._recent, self.trainer).read())
        self._recent.clear()
        cause = "" if found is None else f". Step {found.step}: {found.evidence} {found.remedy}"
        return Problem(f"NaN or infinite values in {where} after step {step}", cause)

    def respond(self, problem: Problem) -> str:
        """Roll back, if that is the policy, and say so.

        Raises:
            FloatingPointError: the policy is another, or it came to nothing.
        """
        last = self.storage.last
        if self.policy != "rollback" or last is None or self.rollbacks == _IN_VAIN:
            raise FloatingPointError(
                f"pygan.fit: weights must stay finite, got {problem.what}; {self._advice()}{problem.cause}"
            )
        saved = copy.deepcopy(self._beginning)  # of which training may change what is loaded
        if saved is None:
            saved = self.processes.from_main(lambda: checkpoint.read(last)["trainer"])
        present = self.trainer.state_dict()
        state = {
            name: own if name in _ONWARD else saved.get(name, own) for name, own in present.items()
        }
        for name in ("g_optimizer", "d_optimizer"):
            # The learning rates follow the count of steps.
            state[name] = {**saved[name], "param_groups": present[name]["param_groups"]}
        self.trainer.load_state_dict(state)
        self.rollbacks += 1
        self._rolled_back = True
        return f"{problem.what}; weights and optimizers are those of {last} again{problem.cause}"

    def _advice(self) -> str:
        if self.storage.last is None:
            return "there is no checkpoint yet"
        advice = (
            f"the last finite checkpoint is {self.storage.last}, from which resume='auto' continues"
        )
        if self.policy == "rollback":
            return f"{_IN_VAIN} rollbacks did not help; {advice}"
        if self.policy == "stop":
            advice += "; nonfinite='rollback', or other settings with allow_changes=True, may avoid the same end"
        return advice

    def saving(self) -> dict[str, int]:
        """What the checkpoint that is about to be written has to hold."""
        self._beginning = None
        if not self._rolled_back:
            self.rollbacks = 0
        self._rolled_back = False
        return {"skipped": self.skipped, "rollbacks": self.rollbacks}

    def restore(self, state: dict[str, int], *, changed: bool) -> None:
        """Continue from what `saving` returned. If settings have `changed`, the checkpoint is of another trainer, with
        another optimizer or without an average: until the next one, rollbacks lead to this one as it is now."""
        if changed and self.policy == "rollback":
            self._beginning = copy.deepcopy(self.trainer.state_dict())
        self.skipped, self.rollbacks = state["skipped"], state["rollbacks"]

    def _finite_gradients(self, parameters: list[nn.Parameter]) -> bool:
        """Whether an update is to be made. Waits for the device.

        Raises:
            FloatingPointError: a network has not been updated for too long.
        """
        finite = all_finite(p.grad for p in parameters if p.grad is not None)
        skip = bool(self.processes.agree(int(not finite)))
        self.skipped += skip
        network = id(parameters[0])
        self._in_a_row[network] = self._in_a_row.get(network, 0) + 1 if skip else 0
        if self._in_a_row[network] == _SKIPPED_IN_A_ROW:
            raise FloatingPointError(
                f"pygan.fit: gradients must become finite again with nonfinite='skip', got {_SKIPPED_IN_A_ROW} updates "
                f"of a network in a row that were left out; {self._advice()}"
            )
        return not skip
