"""The PEP 517/660 build backend: setuptools', plus one answer about torch.

A build-time requirement on torch, written down plainly, would make pip fetch a second torch for every
isolated build, and perhaps another one than the user has; the extension would then be compiled for the
wrong C++ ABI. So torch is required only where the environment that pip installs into has none.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from setuptools import build_meta as _setuptools

# backend-path makes this folder importable for the frontend; setup.py's own imports need it as well.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from setup_helpers.torch_info import OLDEST_TORCH, torch_is_installed

TORCH_REQUIREMENT = f"torch>={OLDEST_TORCH}"

build_sdist = _setuptools.build_sdist
build_wheel = _setuptools.build_wheel
build_editable = _setuptools.build_editable
prepare_metadata_for_build_wheel = _setuptools.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = _setuptools.prepare_metadata_for_build_editable


def get_requires_for_build_sdist(config_settings: Any = None) -> list[str]:
    """Nothing: an sdist holds sources only."""
    return []


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """torch, unless the environment that is installed into has it already."""
    return [] if torch_is_installed() else [TORCH_REQUIREMENT]


get_requires_for_build_editable = get_requires_for_build_wheel
