"""The PEP 517/660 build backend: setuptools, with a requirement on torch only if there is none.

An unconditional build requirement on torch would make pip download a second torch for every isolated build, possibly of
another version than the user's, and the extension would be compiled for the wrong C++ ABI. So torch is required only if
the environment that pip installs into has none.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from setuptools import build_meta as _setuptools

# backend-path makes this folder importable for the frontend; the imports in setup.py need it too.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from setup_helpers.torch_info import OLDEST_TORCH, torch_is_installed

TORCH_REQUIREMENT = f"torch>={OLDEST_TORCH}"

build_sdist = _setuptools.build_sdist
build_wheel = _setuptools.build_wheel
build_editable = _setuptools.build_editable
prepare_metadata_for_build_wheel = _setuptools.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = _setuptools.prepare_metadata_for_build_editable


def get_requires_for_build_sdist(config_settings: Any = None) -> list[str]:
    """Nothing, because an sdist contains only sources."""
    return []


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """torch, unless the target environment already has it."""
    return [] if torch_is_installed() else [TORCH_REQUIREMENT]


get_requires_for_build_editable = get_requires_for_build_wheel
