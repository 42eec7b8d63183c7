"""Functions that torch.compile may trace, and errors for TorchScript."""

import functools
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, cast

import torch

F = TypeVar("F", bound=Callable[..., Any])

# Before 2.8, inductor makes the tensors in an operator's list contiguous, whatever their strides in the graph. Our
# operators follow the memory order: they would draw different noise, and return gradients in another order.
COMPILED = tuple(int(n) for n in torch.__version__.split(".")[:2]) >= (2, 8)


def compiled_since_2_8(function: F) -> F:
    """Decorator for functions that call the operators: part of compiled graphs, or with older versions of torch, run
    eagerly between two graphs."""
    result = function if COMPILED else _uncompiled(function)
    # torch.jit.script takes its message from here.
    vars(result)["__script_unsupported"] = _unscripted(f"{function.__module__}.{function.__name__}")
    return result


def not_scriptable(name: str) -> NoReturn:
    """For __prepare_scriptable__, which torch.jit.script calls on each module.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(_unscripted(name))


def _unscripted(name: str) -> str:
    return f"{name}: torch.jit.script is not implemented; use torch.compile or torch.export"


def _uncompiled(function: F) -> F:
    # Disabled at the first call, because that imports Dynamo; in a wrapper, because torch.compile of a disabled
    # function compiles it anyway.
    disabled: Callable[..., Any] | None = None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal disabled
        if disabled is None:
            disable: Callable[[F], F] = torch.compiler.disable  # untyped in torch 2.11
            disabled = disable(function)
        return disabled(*args, **kwargs)

    return cast(F, call)
