"""Prints the packages of pyproject.toml's extras, for `pip install $(python tools/extra.py test train)`."""

import sys
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
print(*[package for extra in sys.argv[1:] for package in project["optional-dependencies"][extra]])
