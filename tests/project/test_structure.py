"""One place for each idiom, layers of csrc that include in one direction, named files that exist, one spelling."""

import re
from pathlib import Path

import pytest
from helpers import ROOT

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


# What the files of each folder of csrc may include of the others.
LAYERS = {
    "math": set(),
    "launch": {"math"},
    "cpu": {"launch", "math"},
    "cuda": {"launch", "math"},
    "ops": {"cpu", "cuda", "launch", "math"},
}


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_look_one_way(layer):
    files = [path for path in (ROOT / "csrc" / layer).iterdir() if path.is_file()]
    included = {
        folder
        for path in files
        for folder in re.findall(r'#include "(\w+)/', path.read_text("utf-8"))
    }
    assert files
    assert included <= LAYERS[layer] | {layer}


@pytest.mark.parametrize("kind", ["checks", "kernels", "meta", "autograd"])
def test_families_have_the_same_files(kind):
    found = {path.stem for path in (ROOT / "csrc" / "ops").glob(f"*_{kind}.cpp")}
    assert found == {f"{family}_{kind}" for family in ("loss", "noise", "features")}


FOLDERS = ("benchmarks", "cmake", "csrc", "docs", "examples", "pygan", "tests", "tools")
KINDS = {".cmake", ".cpp", ".cu", ".cuh", ".h", ".md", ".py", ".pyi", ".sh", ".toml"}
TEXTS = [
    path
    for path in [*ROOT.iterdir(), *(p for folder in FOLDERS for p in (ROOT / folder).rglob("*"))]
    if path.suffix in KINDS and path.name != "CHANGELOG.md"  # which tells what was
]
# "csrc/math/losses.h" in any text, "math/losses.h" in one about csrc; capitals stand for a name.
STARTS, ENDS = "|".join((*FOLDERS, *LAYERS)), "|".join(kind[1:] for kind in KINDS)
PATH = re.compile(rf"(?<![\w./$-])(?:\.\./)*((?:{STARTS})/(?:[\w-]+/)*[a-z_][\w-]*\.(?:{ENDS}))\b")


def test_named_files_exist():
    named = {
        (str(text.relative_to(ROOT)), name)
        for text in TEXTS
        for name in PATH.findall(text.read_text("utf-8"))
    }
    assert len(named) > 100
    assert {
        (text, name)
        for text, name in named
        if not (ROOT / name).exists() and not (ROOT / "csrc" / name).exists()
    } == set()


BRITISH = re.compile(
    r"\b(?:(?:behavi|col|fav|neighb)our|(?:initial|normal|optim|serial|synchron)is[ei]|licence|centre\b)\w*",
    re.I,
)


def test_spelling_is_american():
    assert {
        (str(text.relative_to(ROOT)), word)
        for text in TEXTS
        for word in BRITISH.findall(text.read_text("utf-8"))
        if text.name != Path(__file__).name
    } == set()
