"""examples/shapes.py and examples/patches.py: the folders that they write."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT

from pygan.datasets import ImageFolder

EXAMPLES = ROOT / "examples"


def run(script, *arguments):
    command = [sys.executable, EXAMPLES / script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_shapes_are_reproducible_and_sorted_into_subfolders(tmp_path):
    folders = [tmp_path / name for name in "abc"]
    for out, seed in zip(folders, (1, 1, 2), strict=True):
        printed = run("shapes.py", "--out", out, "--count", 15, "--size", 16, "--seed", seed)
        assert "15 pictures of 16 x 16 pixels in" in printed
    a, b, c = (ImageFolder(out, 16, labels=True) for out in folders)
    assert a.classes == ["circle", "ring", "square", "star", "triangle"]
    assert a.sizes == [(16, 16)] * 15 and [label for _, label in a] == sorted([*range(5)] * 3)
    assert all((x[0] == y[0]).all() for x, y in zip(a, b, strict=True))
    assert not any((x[0] == y[0]).all() for x, y in zip(a, c, strict=True))


def test_each_shape_is_visible():
    """It is within the picture and differs in brightness, and a ring has a hole."""
    spec = importlib.util.spec_from_file_location("shapes", EXAMPLES / "shapes.py")
    shapes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shapes)
    rng = np.random.default_rng(0)
    for name in shapes.SHAPES:
        for _ in range(30):
            gray = np.asarray(shapes.draw(name, 32, rng).convert("L")).astype(int)
            behind = gray[0, 0]
            border = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
            assert (abs(border - behind) > 1).mean() < 0.15  # it may touch the border
            inside = abs(gray - behind) > 20
            assert 30 < inside.sum() < 600
            y, x = (round(axis.mean()) for axis in np.nonzero(inside))
            assert inside[y, x] == (name != "ring")


@pytest.mark.slow
def test_patches_of_photographs(tmp_path):
    pytest.importorskip("sklearn")
    assert "120 pictures of 32 x 32 pixels in" in run(
        "patches.py", "--out", tmp_path, "--stride", 64
    )
    images = ImageFolder(tmp_path, 32, labels=True)
    assert images.classes == ["china", "flower"] and set(images.sizes) == {(32, 32)}
