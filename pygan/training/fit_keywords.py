"""The keywords of `pygan.fit`: the fields of FitOptions and the options of GANTrainer.

Both are read from their declarations. `_fit_keywords.pyi`, for type checkers, is generated from this module.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any, TypeVar

from pygan.trainer import GANTrainer
from pygan.training.fit_options import FitOptions
from pygan.training.option_docstrings import field_texts, section

__all__ = ["keywords", "split", "with_keywords"]

Function = TypeVar("Function", bound=Callable[..., Any])


@functools.cache
def keywords(*, eval_str: bool = False) -> dict[str, Parameter]:
    """The keywords by name, required ones first; annotations are strings, or with `eval_str` the types that they
    name."""
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
    """Split keywords into the options of `fit` itself and those passed to GANTrainer.

    Raises:
        TypeError: an unknown or missing keyword.
        TypeError, ValueError: an invalid option of `fit`.
    """
    known, own = keywords(), FitOptions.__dataclass_fields__
    for name in given:
        if name in known:
            continue
        if name == "scaler":
            raise TypeError(
                "pygan.fit: got an unexpected option 'scaler': mixed_precision='fp16' creates one"
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
    """A decorator that replaces the function's ``**options`` by the keywords in its signature and docstring, which
    help() and notebooks show."""
    shown = signature(function)
    *named, rest = shown.parameters.values()
    assert rest.kind is Parameter.VAR_KEYWORD
    function.__dict__["__signature__"] = shown.replace(parameters=[*named, *keywords().values()])
    if function.__doc__ and (texts := field_texts(FitOptions)):
        function.__doc__ = f"{inspect.cleandoc(function.__doc__)}\n\n{section('Options', texts)}\n"
    return function
