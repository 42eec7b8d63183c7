"""Descriptions of options for help() and the command line, read from the source: the docstring below each field of a
dataclass, and the entries of a docstring's "Args:"."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

__all__ = ["argument_texts", "field_texts", "section", "with_field_texts"]

Class = TypeVar("Class", bound=type)

_ENTRY = re.compile(r"^ {4}([\w, ]+): (.*(?:\n {8}.*)*)", re.M)


@functools.cache
def field_texts(kind: type) -> dict[str, str]:
    """The docstring below each field of the class, in one line; empty if the source is not available."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[kind.__module__]))
    except OSError:
        return {}
    found = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == kind.__name__)
    body = next(found).body
    texts = {}
    for field, below in itertools.pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            texts[field.target.id] = " ".join(str(below.value.value).split())
    return texts


def argument_texts(function: Callable[..., Any]) -> dict[str, str]:
    """The docstring's text for each argument, in one line."""
    _, _, rest = (inspect.getdoc(function) or "").partition("Args:\n")
    entries = _ENTRY.findall(rest.split("\n\n")[0])
    return {name: " ".join(text.split()) for names, text in entries for name in names.split(", ")}


def section(title: str, texts: Mapping[str, str]) -> str:
    """A docstring section, such as "Attributes:"."""
    lines = [
        textwrap.fill(f"{name}: {text}", 100, initial_indent=4 * " ", subsequent_indent=8 * " ")
        for name, text in texts.items()
    ]
    return "\n".join([f"{title}:", *lines])


def with_field_texts(kind: Class) -> Class:
    """A class decorator that adds the texts of the fields to the docstring, where help() shows them."""
    if kind.__doc__ and (texts := field_texts(kind)):
        kind.__doc__ = f"{inspect.cleandoc(kind.__doc__)}\n\n{section('Attributes', texts)}\n"
    return kind
