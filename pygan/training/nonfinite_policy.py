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

__all__ = ["POLICIES", "NonfiniteGuard"]

POLICIES = ("stop", "skip", "rollback")
_MAX_ROLLBACKS = 3
_MAX_SKIPPED_IN_A_ROW = 100
# If these were rolled back too, the run would reach the same values again.
_NOT_ROLLED_BACK = ("steps", "d_updates", "stream", "latent", "noise", "scaler")


class Problem(NamedTuple):
    """Non-finite values that were found."""

    what: str
    cause: str
    """The monitor's explanation; may be empty."""


class NonfiniteGuard:
    """Checks the state of a run at the steps that synchronize with the device anyway.

    Args:
        trainer, storage, processes: those of the run.
        policy: one of POLICIES. "skip" gives the trainer a condition for its updates, unless it has a scaler, which
            skips such updates itself.
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
        """Number of skipped updates."""
        self._in_a_row: dict[int, int] = {}  # keyed by the id of the network's first parameter
        self.rollbacks = 0
        """Rollbacks since the last checkpoint that was reached without one."""
        self._rolled_back = False
        self._rollback_state: dict[str, Any] | None = None
        # The statistics of recent steps, to find the step and the network in which the values first appeared.
        self._recent: list[tuple[int, TrainStats]] = []
        self.counts_skips = policy == "skip" and trainer.scaler is None
        if self.counts_skips:
            trainer.update_if = self._finite_gradients

    def note(self, step: int, stats: TrainStats) -> None:
        """Record the statistics of a step. Does not synchronize with the device."""
        self._recent.append((step, stats))

    def check(self, step: int) -> Problem | None:
        """The problem with the state after a step; None if all of it is finite in every process."""
        parts = broken_parts(self.trainer)
        if not self.processes.max_over_processes(int(bool(parts))):
            self._recent.clear()
            return None
        where = ", ".join(parts) or "another process"
        found = diagnosis.find(Transfer(self._recent, self.trainer).read())
        self._recent.clear()
        cause = "" if found is None else f". Step {found.step}: {found.evidence} {found.remedy}"
        return Problem(f"NaN or infinite values in {where} after step {step}", cause)

    def respond(self, problem: Problem) -> str:
        """Roll back, if that is the policy, and return a message.

        Raises:
            FloatingPointError: another policy, or too many rollbacks that did not help.
        """
        last = self.storage.last
        if self.policy != "rollback" or last is None or self.rollbacks == _MAX_ROLLBACKS:
            raise FloatingPointError(
                f"pygan.fit: weights must stay finite, got {problem.what}; {self._advice()}{problem.cause}"
            )
        # A copy, because training may modify the loaded tensors.
        saved = copy.deepcopy(self._rollback_state)
        if saved is None:
            saved = self.processes.from_main(lambda: checkpoint.read(last)["trainer"])
        present = self.trainer.state_dict()
        state = {
            name: own if name in _NOT_ROLLED_BACK else saved.get(name, own)
            for name, own in present.items()
        }
        for name in ("g_optimizer", "d_optimizer"):
            # The learning rates depend on the step count, which is not rolled back.
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
            return f"{_MAX_ROLLBACKS} rollbacks did not help; {advice}"
        if self.policy == "stop":
            advice += "; nonfinite='rollback', or other settings with allow_changes=True, may avoid the same end"
        return advice

    def saving(self) -> dict[str, int]:
        """The counters for the checkpoint that is about to be written."""
        self._rollback_state = None
        if not self._rolled_back:
            self.rollbacks = 0
        self._rolled_back = False
        return {"skipped": self.skipped, "rollbacks": self.rollbacks}

    def restore(self, state: dict[str, int], *, changed: bool) -> None:
        """Continue from a result of `saving`. If settings have `changed`, the checkpoint belongs to a different
        trainer, for example with another optimizer: until the next checkpoint, rollbacks restore the current state
        instead."""
        if changed and self.policy == "rollback":
            self._rollback_state = copy.deepcopy(self.trainer.state_dict())
        self.skipped, self.rollbacks = state["skipped"], state["rollbacks"]

    def _finite_gradients(self, parameters: list[nn.Parameter]) -> bool:
        """Whether to make an update. Synchronizes with the device.

        Raises:
            FloatingPointError: too many updates of a network were skipped in a row.
        """
        finite = all_finite(p.grad for p in parameters if p.grad is not None)
        skip = bool(self.processes.max_over_processes(int(not finite)))
        self.skipped += skip
        network = id(parameters[0])
        self._in_a_row[network] = self._in_a_row.get(network, 0) + 1 if skip else 0
        if self._in_a_row[network] == _MAX_SKIPPED_IN_A_ROW:
            raise FloatingPointError(
                f"pygan.fit: gradients must become finite again with nonfinite='skip', got {_MAX_SKIPPED_IN_A_ROW} "
                f"skipped updates of a network in a row; {self._advice()}"
            )
        return not skip
