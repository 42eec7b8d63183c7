"""The optional packages, imported on demand."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["extra"]


def extra(module: str, needed_by: str, name: str = "train") -> Any:
    """The module, or an ImportError that says which extra installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{needed_by} needs what pip install ".[{name}]" in a checkout of pygan installs: {error}'
        ) from error
