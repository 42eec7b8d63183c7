"""One row of the benchmark: what is timed, on what, and the ways to do the same without pygan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["WORK", "Case", "in_a_step", "with_gradients", "without_gradients"]

# Of a call: without gradients; with them, by loss.backward(), and by *_loss_and_grad and LossAndGrad.backward.
WORK = ("forward", "forward + backward", "loss_and_grad + backward")


@dataclass(frozen=True)
class Case:
    """One row: `calls` do the same work on what `buffers()` makes, "pygan" and what it is measured against.

    `moved`: bytes that the op must read and write at least; `normals`: random numbers that it draws. `compiled` is what
    torch.compile gets, and `wrap` makes a call of the result.
    """

    op: str
    work: str
    dtype: torch.dtype
    n: int
    moved: int
    normals: int
    buffers: Callable[[], Sequence[Any]]
    calls: dict[str, Callable[..., Any]]
    compiled: Callable[..., Any]
    wrap: Callable[[Callable[..., Any]], Callable[..., Any]]


def without_gradients(call: Callable[..., Any]) -> Callable[..., Any]:
    def run(*tensors: Any) -> None:
        with torch.no_grad():
            call(*tensors)

    return run


def with_gradients(call: Callable[..., Any]) -> Callable[..., Any]:
    """A step's work: the loss and its gradients, from none."""
    return in_a_step(lambda *logits: call(*logits).backward())


def in_a_step(backward: Callable[..., Any]) -> Callable[..., Any]:
    """The same where `backward` takes the gradients on. Logits are made by an op, the least of ops, as a network's are:
    gradients of leaves would be cloned where something still holds them."""

    def made(leaves: Any) -> Any:
        return (
            [x.view_as(x) for x in leaves] if isinstance(leaves, list) else leaves.view_as(leaves)
        )

    def run(*leaves: Any) -> None:
        for group in leaves:
            for x in group if isinstance(group, list) else [group]:
                x.grad = None
        backward(*map(made, leaves))

    return run
