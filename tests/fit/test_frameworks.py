"""The recipes of docs/frameworks.md: each block is a separate script, except for the networks and an image tensor."""

import ast
from pathlib import Path

import pytest
from helpers import ROOT, accelerated_on, forget_accelerator
from helpers.docs import blocks, page_names, shortened

import pygan
from pygan.training import fit

PAGE = ROOT / "docs" / "frameworks.md"
RECIPES = [block for block in blocks(PAGE) if block.language == "python"]
OURS = {"Generator", "Discriminator", "images"}


def packages(block):
    """The names of the modules that a recipe imports."""
    for node in ast.walk(ast.parse(block.code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.fixture
def here(tmp_path, monkeypatch, restore):
    """A folder with photos; runs are short and on the CPU."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for i in range(40):
        Image.new(
            "RGB" if i % 2 else "L", (20 + i, 30), 5 * i if i % 2 == 0 else (5 * i, 0, 0)
        ).save(f"photos/{i}.png")
    monkeypatch.setattr(pygan, "fit", shortened(fit))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    with accelerated_on("cpu"):
        yield tmp_path
    forget_accelerator()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda block: f"line {block.line}")
def test_recipe(recipe, here):
    for module in packages(recipe):
        pytest.importorskip(module)
    names = {name: value for name, value in page_names().items() if name in OURS}
    recipe.run(PAGE, names)
    if "GAN" in names:  # Lightning's
        assert {"d_loss", "g_loss", "d_real"} <= names["trainer"].callback_metrics.keys()


def test_recipes_are_short():
    for recipe in RECIPES:
        assert sum(bool(line.strip()) for line in recipe.code.splitlines()) <= 40
