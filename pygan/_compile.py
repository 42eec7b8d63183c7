"""Which functions torch.compile may look into."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., Any])

# Before 2.8 inductor makes the tensors in an operator's list contiguous, whatever strides the graph has promised. Ours
# follow the memory order: they would draw other noise, and return gradients in another order than the logits'.
COMPILED = tuple(int(n) for n in torch.__version__.split(".")[:2]) >= (2, 8)


def compiled_since_2_8(function: F) -> F:
    """For what calls the operators: part of compiled graphs; with an older torch, run as it is, between two graphs."""
    disable: Callable[[F], F] = torch.compiler.disable
    return function if COMPILED else disable(function)
