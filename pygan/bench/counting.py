"""Counts the ops of a training step that torch's dispatcher runs, and those that access memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

__all__ = ["Counts", "counted"]

# Ops that create or inspect a tensor, and start no kernel.
ALLOCATIONS = ("empty", "detach", "alias", "_unsafe_view", "_local_scalar_dense", "is_", "sym_")


class Counts(NamedTuple):
    """`ops`: calls below autograd, including backward passes. `kernels`: those that read or write elements: passes over
    memory on a CPU, launches on a GPU (an op may launch more than one; a multi-tensor op counts as one). `names`: how
    often each op ran. `flops`: floating-point operations of matrix products and convolutions, two for each
    multiply-add."""

    ops: int
    kernels: int
    flops: int
    names: Counter[str]


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: Counter[str] = Counter()
        self.kernels = self.flops = 0

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        packet = func.overloadpacket.__name__
        if func.namespace != "profiler":  # markers for traces, in torch's optimizers
            self.names[f"{func.namespace}::{packet}"] += 1
            self.kernels += not (func.is_view or packet.startswith(ALLOCATIONS))
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if flops := flop_registry.get(func.overloadpacket):
            self.flops += flops(*args, **kwargs, out_val=out)
        return out


def counted(step: Callable[[], Any]) -> Counts:
    """Count the ops of a call of `step`, after a warm-up call."""
    step()
    with _Counter() as counter:
        step()
    return Counts(sum(counter.names.values()), counter.kernels, counter.flops, counter.names)
