"""The keywords of `pygan.fit`: FitOptions' fields, and GANTrainer's options.

Both are read from where they are declared. `_keywords.pyi`, for type checkers, is written from here.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any, TypeVar

from pygan.trainer import GANTrainer
from pygan.training.option_texts import field_texts, section
from pygan.training.options import FitOptions

__all__ = ["keywords", "split", "with_keywords"]

Function = TypeVar("Function", bound=Callable[..., Any])


@functools.cache
def keywords(*, eval_str: bool = False) -> dict[str, Parameter]:
    """By name, those that must be given first; with annotations as they are written, or as the types that they name."""
    of_trainer = {
        name: parameter
        for name, parameter in signature(GANTrainer, eval_str=eval_str).parameters.items()
        if parameter.kind is Parameter.KEYWORD_ONLY and name != "scaler"
    }
    own = dict(signature(FitOptions, eval_str=eval_str).parameters)
    found = {**own, **{name: p for name, p in of_trainer.items() if name not in own}}
    required = {name: p for name, p in found.items() if p.default is Parameter.empty}
    return {**required, **found}


def split(given: Mapping[str, Any]) -> tuple[FitOptions, dict[str, Any]]:
    """Keywords as the options of `fit` itself, and those that go to GANTrainer.

    Raises:
        TypeError: one is unknown, or missing.
        TypeError, ValueError: an option of `fit` is not as it must be.
    """
    known, own = keywords(), FitOptions.__dataclass_fields__
    for name in given:
        if name in known:
            continue
        if name == "scaler":
            raise TypeError(
                "pygan.fit: got an unexpected option 'scaler': mixed_precision='fp16' makes one"
            )
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        theirs = ", ".join(sorted(known.keys() - own.keys()))
        raise TypeError(
            f"pygan.fit: got an unexpected option {name!r}{hint} (GANTrainer's are {theirs})"
        )
    missing = [n for n, p in known.items() if p.default is Parameter.empty and n not in given]
    if missing:
        raise TypeError(f"pygan.fit: {' and '.join(missing)} must be given, got none")
    options = FitOptions(**{name: value for name, value in given.items() if name in own})
    return options, {name: value for name, value in given.items() if name not in own}


def with_keywords(function: Function) -> Function:
    """The function with the keywords in the place of its ``**``, in its signature and its docstring: what help() and
    notebooks show."""
    shown = signature(function)
    *named, rest = shown.parameters.values()
    assert rest.kind is Parameter.VAR_KEYWORD
    function.__dict__["__signature__"] = shown.replace(parameters=[*named, *keywords().values()])
    if function.__doc__ and (texts := field_texts(FitOptions)):
        function.__doc__ = f"{inspect.cleandoc(function.__doc__)}\n\n{section('Options', texts)}\n"
    return function
