"""One row of the benchmark: the calls to time, their inputs, and the baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["WORK", "Case", "in_a_step", "with_gradients", "without_gradients"]

# What a call computes: no gradients; gradients by loss.backward(); gradients by *_loss_and_grad and
# LossAndGrad.backward.
WORK = ("forward", "forward + backward", "loss_and_grad + backward")


@dataclass(frozen=True)
class Case:
    """One row: `calls` ("pygan" and the baselines) do the same work on the tensors that `buffers()` creates.

    `moved`: minimum number of bytes that the op must read and write; `normals`: number of normals that it draws.
    `compiled` is the function for torch.compile, and `wrap` turns its result into a call.
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
    """The work of a training step: the loss and its gradients, starting without gradients."""
    return in_a_step(lambda *logits: call(*logits).backward())


def in_a_step(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Like `with_gradients`, for a function that runs the backward pass itself. As in a network, the logits are the
    output of an op (the cheapest one), because gradients of leaves would be cloned if something still refers to
    them."""

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
