"""Nested tuples, lists and dicts of tensors, as networks take and return them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["leaves", "mapped"]


def leaves(tree: Any) -> list[Any]:
    """The leaves of the tree in order: everything that is not a tuple, list or dict; nothing for None."""
    if tree is None:
        return []
    if isinstance(tree, Mapping):
        tree = list(tree.values())
    if not isinstance(tree, (tuple, list)):
        return [tree]
    return [leaf for branch in tree for leaf in leaves(branch)]


def mapped(function: Callable[..., Any], *trees: Any) -> Any:
    """A tree like the first, with the function applied to corresponding leaves; None stays None."""
    first: Any = trees[0]
    kind = type(first)
    if first is None:
        return None
    if isinstance(first, Mapping):
        items = {key: mapped(function, *(tree[key] for tree in trees)) for key in first}
        return items if isinstance(first, defaultdict) else kind(items)
    if isinstance(first, (tuple, list)):
        values = [mapped(function, *branches) for branches in zip(*trees, strict=True)]
        return kind(*values) if hasattr(first, "_fields") else kind(values)
    return function(*trees)
