"""Papers: every paper cited in the documentation is in docs/papers.md, and its mentions on the site are links."""

import re
import sys

import pytest
from helpers import ROOT
from helpers.docs import MODULES, PAGES

sys.path.insert(0, str(ROOT / "tools" / "docs"))
from papers import linked, mentions, papers

GALLERY = sorted((ROOT / "examples").rglob("*.py"))
TEXTS = [path for path in (*PAGES, *MODULES, *GALLERY) if path.name not in ("papers.md",)]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_cited_papers_are_listed(path):
    text = path.read_text("utf-8")
    text = re.sub(r"^\s*#", " ", text, flags=re.M) if path.suffix == ".py" else text
    # A single name and a year may be a month or a version; with several authors it is a paper.
    named = {m for m in mentions(text) if " and " in m or "et al." in m}
    assert named - papers().keys() == set()


def test_listed_papers_are_cited():
    named = {m for path in TEXTS for m in mentions(re.sub(r"\n\s*#", " ", path.read_text("utf-8")))}
    assert papers().keys() - named == set()
    assert all(address.startswith("https://") for address in papers().values())


def test_mentions_become_links():
    address = papers()["Goodfellow et al. 2014"]
    link = f'<a href="{address}">Goodfellow et al. 2014</a>'
    assert linked("<p>(Goodfellow et al. 2014, section 3)</p>") == f"<p>({link}, section 3)</p>"
    # The closing parenthesis is outside the link.
    assert "</a>)" in linked("<p>Box and Muller (1958)</p>")
    for untouched in (
        "<code>Goodfellow et al. 2014</code>",
        '<a href="#">Goodfellow et al. 2014</a>',
        "<h2>Bishop 2006</h2>",
        "<p>In November 2026, Nobody et al. 2014</p>",
    ):
        assert linked(untouched) == untouched
    assert linked("<p><code>x</code> Bishop 2006</p>").count("<a ") == 1
