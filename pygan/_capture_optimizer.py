"""CapturedOptimizer: an optimizer whose updates are replayed, with the tensors that the graphs hold."""

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

from pygan._capture_audit import storage_of

__all__ = ["CapturedOptimizer"]


class CapturedOptimizer:
    """The state and the options of an optimizer.

    Learning rates are numbers or tensors, as the user likes. In captured steps, and those in between, they are tensors
    of the graphs, to which each step writes what is in the groups. State that is not there yet at the capture, or that
    is loaded later, is taken over: the graphs' tensors get its values, and stand for it from then on.

    Args:
        name: as GANTrainer calls it.
        optimizer: whatever PyTorch's interface allows.
        device: of its parameters.

    Raises:
        RuntimeError: it keeps something on the host that moves from step to step.
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
        self.look()

    def look(self) -> None:
        """Take the state and the options that are there now for those of the graphs."""
        self._state = {p: dict(entry) for p, entry in self._optimizer.state.items()}
        self._flat = [*chain.from_iterable(map(dict.values, self._state.values()))]
        # Schedulers of the learning rate keep some of theirs in the groups later.
        self._options = [
            ({k: x for k, x in group.items() if k not in ("lr", "params")}, [*group["params"]])
            for group in self._optimizer.param_groups
        ]

    def check_unmoved(self) -> None:
        """That steps since the last look have changed the state in place, and on the device alone.

        Raises:
            RuntimeError: they have not.
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
                f"GANTrainer.capture: {self.name} must not change its options in a step, got another "
                f"{self.changed_option()}"
            )

    @torch.no_grad()
    def put_back(self) -> None:
        """The state as it was when this was made: in place, and where there was none, none."""
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
        """Of the state, and of what stands for the learning rates."""
        return {storage_of(x) for x in [*self._flat, *self._rates] if isinstance(x, Tensor)}

    @torch.no_grad()
    def take_over(self) -> bool:
        """Whether the state is that of the graphs. Where it is other tensors of the same kind, their values are taken.

        Raises:
            RuntimeError: it is of another kind.
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
                        f"GANTrainer.step: {self.name} must have a state as it was captured, got another {key!r}; "
                        "call capture again"
                    )
                mine.copy_(x)
                state[p][key] = mine
        return set(state) == set(self._state)

    def changed_option(self) -> str | None:
        """What differs in the groups from what was captured, but for the learning rates."""
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
        """Write the groups' learning rates to the tensors that stand for them."""
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
    def standing_in(self) -> Iterator[None]:
        """Within it, the learning rates are the tensors."""
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
    """That it says of itself that it can be captured, as far as it says anything."""
    for group in optimizer.param_groups:
        option = "capturable" if "capturable" in group else "fused"
        if not group.get(option, True):
            cause = "counts its steps" if option == "capturable" else "keeps its learning rate"
            raise RuntimeError(
                f"GANTrainer.capture: {name} must be made with {option}=True, because it {cause} on the host "
                f"otherwise, got a {type(optimizer).__name__} without"
            )


def _rate_of(group: dict[str, Any], device: torch.device) -> Tensor:
    """What stands for the learning rate: the group's own tensor, or another one."""
    rate = group["lr"]
    if isinstance(rate, Tensor) and rate.device == device and rate.dim() == 0:
        return rate
    parameters: list[nn.Parameter] = group["params"]
    double = all(p.dtype == torch.float64 for p in parameters) and not group.get("fused")
    dtype = torch.float64 if double else torch.float32  # which fused optimizers ask for
    return torch.full((), float(rate), dtype=dtype, device=device)


def _equal(a: Any, b: Any) -> bool:
    """Whether plain values are; a tensor is written into a graph by its memory."""
    return not any(isinstance(x, Tensor) for x in tree_leaves((a, b))) and bool(a == b)


def _copied(x: Any) -> Any:
    return x.clone() if isinstance(x, Tensor) else x
