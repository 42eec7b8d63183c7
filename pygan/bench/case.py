"""One row of the benchmark: what is timed, on what, and the ways to do the same without pygan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["WORK", "Case", "with_gradients", "without_gradients"]

# Of a call: without gradients; with them, by autograd; with them, by *_loss_and_grad.
WORK = ("forward", "forward + backward", "loss_and_grad")


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

    def run(*logits: Any) -> None:
        for group in logits:
            for x in group if isinstance(group, list) else [group]:
                x.grad = None
        call(*logits).backward()

    return run
