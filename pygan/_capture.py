"""CapturedSteps: whole iterations of a GANTrainer as CUDA graphs, one for each set of penalties due together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from pygan import _capture_checks as checks
from pygan._capture_op_audit import OpAudit, storage_of
from pygan._capture_optimizer import CapturedOptimizer
from pygan._capture_phases import Counts, phase_of, phases_of, probes_of
from pygan._capture_pool import CapturedPool
from pygan._capture_restore import find_entries, restored_after
from pygan._capture_snapshot import ChangeDetector, Snapshot
from pygan._capture_stats import PackedStats
from pygan._device_numbers import DeviceNumbers
from pygan._trainer_stats import TrainStats
from pygan.average import EMA

__all__ = ["CapturedSteps"]

_AGAIN = "call capture again, or release"


@dataclass
class _Graph:
    """A captured iteration."""

    replay: Callable[[], None]
    stats: PackedStats
    fake: Tensor
    grads: list[list[tuple[nn.Parameter, Tensor]]]
    """Of each network."""
    d_updates: int
    ends_in_sigmoid: bool | None

    def show_gradients(self) -> None:
        """Point the parameters' .grad to the gradients that a replay has written."""
        for grads in self.grads:
            # If one does, all do.
            if any(p.grad is not grad for p, grad in grads[:1]):
                for p, grad in grads:
                    p.grad = grad


class CapturedSteps:
    """Captures the iteration for batches like the given one, and then runs the trainer's iterations.

    Args:
        trainer: a GANTrainer, whose `step` runs eagerly while its `_captured` is None. (Its class imports this
            module.)
        real, labels: as for its `step`.
        graphs: captures functions, like :class:`pygan._capture_cuda.CudaGraphs`.

    Raises:
        RuntimeError: something in the iteration cannot be captured, or would be frozen.
        TypeError, ValueError: the batch cannot be copied. The trainer is unchanged.
    """

    def __init__(self, trainer: Any, real: Any, labels: Any, graphs: Any) -> None:
        checks.check_trainer(trainer)
        self._trainer, self._graph_maker = trainer, graphs
        self._players = (trainer._networks.g, trainer._networks.d)
        self._device = self._players[0].device
        self._optimizers = [
            CapturedOptimizer(player.optimizer_name, player.optimizer, self._device)
            for player in self._players
        ]
        self._pools = [] if trainer.pool is None else [CapturedPool(trainer.pool)]
        self._holders: list[CapturedOptimizer | CapturedPool] = [*self._optimizers, *self._pools]
        leaves, self._tree = tree_flatten(_batch(real, labels))
        for x in leaves:
            checks.check_input(x, self._device)
        self._kinds, self._layouts = [*map(_kind, leaves)], [*map(_layout, leaves)]
        self._inputs = [_like(x) for x in leaves]
        self._autocast = _autocast(self._device)
        self._numbers = DeviceNumbers(self._device, trainer.steps)
        self._penalties: list[Tensor] = []
        self._graphs: dict[Any, _Graph] = {}
        with restored_after(trainer, self._holders, self._device) as snapshot:
            self._capture(snapshot)
        for i, x in enumerate(trainer._reports.penalties):
            self._penalties[i].copy_(x)
        self._sync_penalties()

    # --- capturing ----------------------------------------------------------------------------------

    def _capture(self, snapshot: Snapshot) -> None:
        phases = phases_of(self._trainer)
        with self._graph_maker.warm_up(), self._substituted():
            for counts in phases.values():
                self._iterate(counts)
                for pool in self._pools:
                    pool.fill()
            self._penalties = [x.clone() for x in self._trainer._reports.penalties]
            self._sync_penalties()
            self._detector = ChangeDetector(find_entries(self._trainer))
            for holder in self._holders:
                holder.record()
            known = snapshot.storages() | self._detector.storages()
            known.update(storage_of(x) for x in self._penalties + self._inputs)
            known.update(*(holder.storages() for holder in self._holders))
            for counts in phases.values():
                self._audit(counts, known)
        self._check_unmoved()
        checks.check_repeatable(self._trainer)
        with self._substituted():
            for phase, counts in phases.items():
                self._graphs[phase] = self._capture_graph(counts)
        self._check_unmoved()

    @contextmanager
    def _substituted(self) -> Iterator[None]:
        """Context manager in which tensors replace host numbers that change between steps."""
        with ExitStack() as stack:
            stack.enter_context(self._numbers.substituted())
            for optimizer in self._optimizers:
                stack.enter_context(optimizer.substituted())
            yield

    def _iterate(self, counts: Counts) -> TrainStats:
        self._trainer.steps, self._trainer.d_updates = counts
        stats = self._trainer.step(*tree_unflatten(self._inputs, self._tree))
        if self._penalties:
            self._sync_penalties()
        return stats

    @torch.no_grad()
    def _sync_penalties(self) -> None:
        """Copy the penalties' latest values into the tensors that the graphs read and write."""
        penalties = self._trainer._reports.penalties
        for i, mine in enumerate(self._penalties):
            if penalties[i] is not mine:
                mine.copy_(penalties[i])
                penalties[i] = mine

    def _audit(self, counts: Counts, known: set[int]) -> None:
        """Compare steps of a phase, which should differ only in their counts."""
        first = audit = OpAudit(self._device)
        with self._graph_maker.without_sync():
            for its in probes_of(self._trainer, counts):
                with audit:
                    self._iterate(its)
                audit = OpAudit(self._device, like=first)
        if not first.written <= known:
            raise RuntimeError(
                "GANTrainer.capture: a step must change only tensors of networks, optimizers and penalties, which "
                "can be restored after the warm-up, got one that changes another tensor; register it as a buffer of "
                "a module"
            )

    def _check_unmoved(self) -> None:
        changed = self._detector.changed()
        if changed is not None:
            raise RuntimeError(
                f"GANTrainer.capture: a step must change tensors in place, and no Python numbers, got a new {changed}"
            )
        for optimizer in self._optimizers:
            optimizer.check_unmoved()

    def _capture_graph(self, counts: Counts) -> _Graph:
        trainer = self._trainer
        # Casts cached by an autocast region must be computed in the graph, and must not be used after it.
        torch.clear_autocast_cache()
        replay, (stats, fake) = self._graph_maker.capture(
            lambda: (PackedStats(self._iterate(counts)), trainer.fake)
        )
        torch.clear_autocast_cache()
        grads = []
        for player in self._players:
            grads.append([(p, p.grad) for p in player.parameters if p.grad is not None])
            player.zero_grad()
        updates = trainer.d_updates - counts[1]
        return _Graph(replay, stats, fake, grads, updates, trainer.ends_in_sigmoid)

    # --- stepping -----------------------------------------------------------------------------------

    def step(self, real: Any, labels: Any, total: Any) -> TrainStats:
        """The trainer's next iteration."""
        leaves, tree = tree_flatten(_batch(real, labels))
        same_size = self._check_batch(leaves, tree)
        self._check_unchanged()
        phase = phase_of(self._trainer, (self._trainer.steps, self._trainer.d_updates))
        graph = self._graphs.get(phase) if same_size else None
        totals = total if isinstance(total, (list, tuple)) else [total] * self._trainer.d_steps
        whole = [*totals] in ([None] * len(totals), [*map(len, leaves[: len(totals)])])
        if graph is None or not whole or not self._is_ready(phase):
            return self._step_eagerly(real, labels, total)
        return self._replay(graph, leaves)

    def _step_eagerly(self, real: Any, labels: Any, total: Any) -> TrainStats:
        trainer = self._trainer
        trainer._captured = None
        try:
            with ExitStack() as stack:
                for optimizer in self._optimizers:
                    optimizer.write_rates()
                    stack.enter_context(optimizer.substituted())
                return trainer.step(real, labels, total=total)
        finally:
            trainer._captured = self

    def _replay(self, graph: _Graph, leaves: list[Tensor]) -> TrainStats:
        trainer = self._trainer
        trainer._networks.prepare("step", *self._players)
        self._numbers.write(trainer.steps)
        for optimizer in self._optimizers:
            optimizer.write_rates()
        self._sync_penalties()
        torch._foreach_copy_(self._inputs, leaves, non_blocking=True)
        graph.replay()
        trainer.steps += 1
        trainer.d_updates += graph.d_updates
        given = tree_unflatten(leaves, self._tree)
        last = given if isinstance(given[0], Tensor) else [each[-1] for each in given]
        trainer.real, trainer.labels = last[0].detach(), last[1] if len(last) > 1 else None
        trainer.fake = graph.fake.clone()
        trainer.ends_in_sigmoid = graph.ends_in_sigmoid
        graph.show_gradients()
        for player in self._players:
            # As the optimizer's step does; otherwise learning-rate schedulers warn.
            player.optimizer._opt_called = True
        torch.clear_autocast_cache()  # as an update does
        return graph.stats.copied()

    def _check_batch(self, leaves: list[Any], tree: Any) -> bool:
        """Whether a batch has the size of the captured one.

        Raises:
            ValueError: it differs in something other than its size.
        """
        if tree != self._tree:
            raise ValueError(
                f"GANTrainer.step: real and labels must have the structure that was captured, {self._tree}, got "
                f"{tree}; {_AGAIN}"
            )
        kinds = [*map(_kind, leaves)]
        same_size = all(x.shape == mine.shape for x, mine in zip(leaves, self._inputs))
        layouts = [*map(_layout, leaves)] if same_size else self._layouts
        if kinds != self._kinds or layouts != self._layouts:
            raise ValueError(
                "GANTrainer.step: real and labels must match the captured ones in all but the batch size, "
                f"{self._kinds} with strides {self._layouts}, got {kinds} with {layouts}; {_AGAIN}"
            )
        return same_size

    def _is_ready(self, phase: Any) -> bool:
        """Whether everything that the phase's graph refers to exists. Averages and optimizer states do not exist before
        the first step, which creates them in its own way."""
        ema = self._trainer.ema
        if isinstance(ema, EMA) and ema._empty:
            return False
        if phase is None:
            return self._optimizers[0].adopt_state()
        return all([holder.adopt_state() for holder in self._holders])

    def _check_unchanged(self) -> None:
        """Checks that nothing that the graphs refer to has been replaced.

        Raises:
            RuntimeError: something has been replaced.
        """
        checks.check_no_condition("GANTrainer.step", self._trainer)
        changed = self._detector.changed()
        for optimizer in self._optimizers:
            option = optimizer.changed_option()
            if option is not None:
                changed = changed or f"{optimizer.name}, {option}"
        autocast = _autocast(self._device)
        if autocast != self._autocast:
            changed = changed or f"autocast region, {autocast}"
        if changed is not None:
            raise RuntimeError(
                "GANTrainer.step: everything that a captured step depends on must stay the same, got a new "
                f"{changed}; {_AGAIN}"
            )


def _batch(real: Any, labels: Any) -> tuple[Any, ...]:
    return (real,) if labels is None else (real, labels)


def _kind(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return type(x)
    return x.dtype, str(x.device), tuple(x.shape[1:]), x.requires_grad


def _layout(x: Tensor) -> list[int]:
    """The strides of dimensions with more than one element."""
    return [step for size, step in zip(x.shape, x.stride()) if size > 1]


def _like(x: Tensor) -> Tensor:
    """A copy with the same strides, unless elements overlap."""
    if 0 in _layout(x):
        return x.clone()
    mine = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)
    return mine.copy_(x)


def _autocast(device: torch.device) -> Any:
    kind = device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
