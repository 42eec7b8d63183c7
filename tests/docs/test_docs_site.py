"""Generated pages are up to date, no public name is missing, and the site can be built."""

import re
import subprocess
import sys

import pytest
from helpers import ROOT
from helpers.docs import PAGES

import pygan
from pygan import fused_losses, schedules

DOCS = ROOT / "docs"


def run(*command):
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_benchmarks_page_matches_the_results(tmp_path):
    pytest.importorskip("matplotlib")
    script, out, readme = (
        "tools/docs/benchmarks_page.py",
        *map(tmp_path.joinpath, ("benchmarks.md", "README.md")),
    )
    run(sys.executable, script, "--out", out, "--readme", readme)
    page = out.read_text("utf-8")
    assert page == (DOCS / "benchmarks.md").read_text("utf-8")
    assert readme.read_text("utf-8") == (ROOT / "README.md").read_text("utf-8")
    drawn, kept = (sorted((folder / "speed").rglob("*.png")) for folder in (tmp_path, DOCS))
    assert [p.relative_to(tmp_path) for p in drawn] == [p.relative_to(DOCS) for p in kept]
    assert all(f"({p.relative_to(DOCS)})" in page for p in kept)


def test_mode_coverage_tables_match_the_results(tmp_path):
    out = tmp_path / "modes.md"
    run(sys.executable, "tools/docs/modes_page.py", "--out", out)
    page = out.read_text("utf-8")
    assert page == (DOCS / "mode-coverage.md").read_text("utf-8")
    files = (ROOT / "benchmarks" / "modes").glob("*.jsonl")
    assert [path.stem for path in files if f"<!-- modes of {path.stem} -->" not in page] == []


def test_the_gallery_lists_its_pages(tmp_path):
    for page in (DOCS / "gallery").glob("*.md"):
        (tmp_path / page.name).write_bytes(page.read_bytes())
    run(sys.executable, "examples/gallery/index.py", "--pages", tmp_path)
    assert (tmp_path / "index.md").read_text() == (DOCS / "gallery" / "index.md").read_text()


@pytest.mark.parametrize("page", [p for p in PAGES if ".png" in p.read_text("utf-8")], ids=str)
def test_pictures_exist(page):
    text = page.read_text("utf-8")
    shown = re.findall(r"!\[[^\]]*\]\(([^)]+)\)|<img src=\"([^\"]+)\"", text)
    assert [a or b for a, b in shown if not (page.parent / (a or b)).exists()] == []


def test_every_public_name_is_on_an_api_page():
    for page, names in (("schedules", schedules.__all__), ("losses", fused_losses.LOSSES)):
        text = (DOCS / f"{page}.md").read_text("utf-8")
        assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []
    api = "".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    names = set(pygan.__all__) - {"__version__"}
    assert [name for name in names if f"::: pygan.{name}\n" not in api] == []


@pytest.mark.slow
@pytest.mark.parametrize(("script", "picture"), [("schedules", "it.png"), ("losses", "hinge.png")])
def test_pictures_can_be_drawn(script, picture, tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / picture if script == "schedules" else tmp_path
    # A warning would mean a missing glyph or a layout that does not fit.
    strict = ("-W", "error::UserWarning")
    run(sys.executable, *strict, ROOT / "examples" / f"plot_{script}.py", "--out", out)
    assert (tmp_path / picture).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.slow
def test_the_site_can_be_built(tmp_path):
    """In strict mode: without dead links and unknown names in docstrings."""
    for package in ("material", "mkdocstrings_handlers.python"):
        pytest.importorskip(package)
    run(sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site")
    # Search in pages opened from the disk.
    assert (tmp_path / "site" / "search" / "search_index.js").exists()
    assert "assets/iframe-worker.js" in (tmp_path / "site" / "index.html").read_text("utf-8")
    assert list((tmp_path / "site" / "results").rglob("ops.csv"))
    pages = {page.relative_to(tmp_path / "site") for page in (tmp_path / "site").rglob("*.html")}
    assert len(pages) > 20
    for page in pages:
        text = (tmp_path / "site" / page).read_text("utf-8")
        # Nothing is loaded from another host, and no link or role is left unconverted.
        assert re.findall(r'(?:src|<link[^>]* href)="(?:https?:)?//', text) == [], page
        assert re.findall(r":(?:class|func|meth|data|mod|attr):", text) == [], page
