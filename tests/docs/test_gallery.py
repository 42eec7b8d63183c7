"""The gallery: every script has a page, and the quick scripts run, including their assertions."""

import os
import subprocess
import sys

import pytest
from helpers import ROOT

SCRIPTS = ROOT / "examples" / "gallery"
PAGES = ROOT / "docs" / "gallery"
NO_PAGES = {"page", "baselines", "index"}


def test_every_script_has_a_page_and_a_picture():
    names = {script.stem for script in SCRIPTS.glob("*.py")} - NO_PAGES
    assert names == {page.stem for page in PAGES.glob("*.md")} - {"index"}
    for name in names:
        text = (PAGES / f"{name}.md").read_text("utf-8")
        picture = PAGES / (f"{name}.gif" if (PAGES / f"{name}.gif").exists() else f"{name}.png")
        assert picture.exists() and f"({picture.name})" in text
        assert f"Made by `python examples/gallery/{name}.py`." in text


def test_an_unreadable_picture_is_refused(monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(SCRIPTS)
    import page

    figure, axes = page.figure()
    axes.plot(range(100), label="curve")
    axes.legend(loc="upper left")
    assert list(page.misplaced(figure)) == []
    axes.set_title(80 * "long ")
    axes.legend(loc="center")
    problems = list(page.misplaced(figure))
    assert len(problems) == 2 and "reaches beyond the edge" in problems[0]
    assert problems[1] == "the legend lies on the curve 'curve'"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dirac"])
def test_quick_pages(name, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-W",
        "error::UserWarning",
        SCRIPTS / f"{name}.py",
        "--out",
        tmp_path,
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [
        [
            line
            for line in (folder / f"{name}.md").read_text("utf-8").splitlines()
            if line[:2] == "| "
        ]
        for folder in (tmp_path, PAGES)
    ]
    assert len(rows[0]) == len(rows[1]) > 1
