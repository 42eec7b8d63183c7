"""The optional packages, imported on demand."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["extra"]


def extra(module: str, needed_by: str, name: str = "train") -> Any:
    """Import a module; if it is missing, raise an ImportError that names the extra to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{needed_by} needs more packages; run pip install ".[{name}]" in a checkout of pygan: {error}'
        ) from error
