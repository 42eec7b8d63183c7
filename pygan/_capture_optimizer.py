"""CapturedOptimizer: an optimizer whose updates are replayed, and the tensors that the graphs use for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from pygan._capture_op_audit import storage_of

__all__ = ["CapturedOptimizer"]


class CapturedOptimizer:
    """The state and the options of an optimizer.

    The user's learning rates may be numbers or tensors. In captured steps, and in eager steps between them, they are
    replaced by the graphs' tensors, to which each step copies the values in the groups. State that is created after the
    capture, or loaded, is adopted: the graphs' tensors get its values and replace it.

    Args:
        name: the optimizer's argument name in GANTrainer.
        optimizer: any optimizer with PyTorch's interface.
        device: the device of its parameters.

    Raises:
        RuntimeError: it keeps state on the host that changes from step to step.
    """

    def __init__(self, name: str, optimizer: Optimizer, device: torch.device) -> None:
        self.name, self._optimizer = name, optimizer
        check_capturable(name, optimizer)
        self._rates = [_rate_of(group, device) for group in optimizer.param_groups]
        self._written: list[Any] = [None] * len(self._rates)
        self._before = {
            p: {key: _copied(x) for key, x in entry.items()} for p, entry in optimizer.state.items()
        }
        self._state: dict[Any, dict[str, Any]] = {}
        self.record()

    def record(self) -> None:
        """Record the current state and options as those that the graphs use."""
        self._state = {p: dict(entry) for p, entry in self._optimizer.state.items()}
        self._flat = [*chain.from_iterable(map(dict.values, self._state.values()))]
        # Only these keys, because learning-rate schedulers add their own to the groups later.
        self._options = [
            ({k: x for k, x in group.items() if k not in ("lr", "params")}, [*group["params"]])
            for group in self._optimizer.param_groups
        ]

    def check_unmoved(self) -> None:
        """Check that the steps since the last `record` changed the state in place and only on the device.

        Raises:
            RuntimeError: they did not.
        """
        for p, entry in self._state.items():
            for key, x in self._optimizer.state[p].items():
                if isinstance(x, Tensor) and x is entry[key]:
                    continue
                if isinstance(x, Tensor) or x != entry[key]:
                    what = "the tensor" if isinstance(x, Tensor) else "the number of the host"
                    raise RuntimeError(
                        f"GANTrainer.capture: {self.name} must change its state in place, on the device, got "
                        f"{type(self._optimizer).__name__}, whose steps replace {what} {key!r}"
                    )
        if self.changed_option() is not None:
            raise RuntimeError(
                f"GANTrainer.capture: {self.name} must not change its options in a step, got a new "
                f"{self.changed_option()}"
            )

    @torch.no_grad()
    def restore(self) -> None:
        """Restore the state at construction in place; state that did not exist then is removed."""
        state = self._optimizer.state
        for p in list(state):
            before = self._before.get(p)
            if before is None:
                del state[p]
                continue
            for key in list(state[p]):
                now, value = state[p][key], before.get(key)
                if key not in before:
                    del state[p][key]
                elif isinstance(now, Tensor) and isinstance(value, Tensor):
                    now.copy_(value)
                else:
                    state[p][key] = value

    def storages(self) -> set[int]:
        """The storages of the state and of the tensors for the learning rates."""
        return {storage_of(x) for x in [*self._flat, *self._rates] if isinstance(x, Tensor)}

    @torch.no_grad()
    def adopt_state(self) -> bool:
        """Whether the graphs' tensors hold the state; values in other tensors of the same kind are copied to them.

        Raises:
            RuntimeError: the state is of another kind.
        """
        state = self._optimizer.state
        now = [*chain.from_iterable(map(dict.values, state.values()))]
        if len(now) == len(self._flat) and all(map(is_, now, self._flat)):
            return True
        for p, entry in self._state.items():
            if entry and set(state.get(p, {})) != set(entry):
                return False
        for p, entry in self._state.items():
            for key, mine in entry.items():
                x = state[p][key]
                if x is mine:
                    continue
                if not isinstance(x, Tensor) or x.shape != mine.shape or x.dtype != mine.dtype:
                    if not isinstance(x, Tensor) and x == mine:
                        continue
                    raise RuntimeError(
                        f"GANTrainer.step: {self.name} must keep the state that was captured, got a new {key!r}; call "
                        "capture again"
                    )
                mine.copy_(x)
                state[p][key] = mine
        return set(state) == set(self._state)

    def changed_option(self) -> str | None:
        """The option in the groups that has changed since the capture, other than the learning rates; None if none
        has."""
        groups = self._optimizer.param_groups
        if len(groups) != len(self._options):
            return "number of groups"
        for group, (options, parameters) in zip(groups, self._options, strict=True):
            now = group["params"]
            if len(now) != len(parameters) or not all(map(is_, now, parameters)):
                return "list of parameters"
            for key, x in options.items():
                if group.get(key) is not x and not _equal(group.get(key), x):
                    return key
        return None

    @torch.no_grad()
    def write_rates(self) -> None:
        """Copy the groups' learning rates to the graphs' tensors."""
        for i, group in enumerate(self._optimizer.param_groups):
            rate, mine = group["lr"], self._rates[i]
            if isinstance(rate, Tensor) and rate.device == mine.device:
                self._written[i] = None
                if rate is not mine:
                    mine.copy_(rate)
            elif self._written[i] != (value := float(rate)):
                mine.fill_(value)
                self._written[i] = value

    @contextmanager
    def substituted(self) -> Iterator[None]:
        """Context manager in which the learning rates are the graphs' tensors."""
        groups = self._optimizer.param_groups
        given = [group["lr"] for group in groups]
        try:
            for group, rate in zip(groups, self._rates, strict=True):
                group["lr"] = rate
            yield
        finally:
            for group, rate in zip(groups, given, strict=True):
                group["lr"] = rate


def check_capturable(name: str, optimizer: Optimizer) -> None:
    """Check the optimizer's `capturable` or `fused` option, if it has one."""
    for group in optimizer.param_groups:
        option = "capturable" if "capturable" in group else "fused"
        if not group.get(option, True):
            cause = "counts its steps" if option == "capturable" else "keeps its learning rate"
            raise RuntimeError(
                f"GANTrainer.capture: {name} must be created with {option}=True, because otherwise it {cause} on the "
                f"host, got {type(optimizer).__name__} without it"
            )


def _rate_of(group: dict[str, Any], device: torch.device) -> Tensor:
    """The graphs' tensor for a learning rate: the group's own tensor if possible, otherwise a new one."""
    rate = group["lr"]
    if isinstance(rate, Tensor) and rate.device == device and rate.dim() == 0:
        return rate
    parameters: list[nn.Parameter] = group["params"]
    double = all(p.dtype == torch.float64 for p in parameters) and not group.get("fused")
    dtype = torch.float64 if double else torch.float32  # fused optimizers require it
    return torch.full((), float(rate), dtype=dtype, device=device)


def _equal(a: Any, b: Any) -> bool:
    """Whether plain values are equal. Tensors never are, because a graph refers to their memory."""
    return not any(isinstance(x, Tensor) for x in tree_leaves((a, b))) and bool(a == b)


def _copied(x: Any) -> Any:
    return x.clone() if isinstance(x, Tensor) else x
