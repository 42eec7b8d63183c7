"""Idioms that may occur in only one place."""

import re
from pathlib import Path

import pytest

import pygan

PACKAGE = Path(pygan.__file__).parent
SOURCES = {
    str(path.relative_to(PACKAGE)): path.read_text("utf-8") for path in PACKAGE.rglob("*.py")
}


@pytest.mark.parametrize(
    ("what", "where"),
    [
        (r"compiler\.is_compiling|import is_compiling", {"_ops.py"}),
        (r"torch\.ops\.pygan\b", {"_ops.py"}),
        (r"isinstance\(\w+, bool\) or not isinstance", set()),  # pygan._validation.is_int
    ],
)
def test_each_idiom_is_used_in_one_place(what, where):
    assert {name for name, text in SOURCES.items() if re.search(what, text)} - {
        "__init__.py"  # its examples are for users
    } == where
