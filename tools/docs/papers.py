"""An mkdocs hook that turns every mention of a paper by authors and year into the link in docs/papers.md.

This includes docstrings and generated pages, and each address is kept in a single place.
"""

import re
from functools import cache
from pathlib import Path

PAPERS = Path(__file__).resolve().parents[2] / "docs" / "papers.md"
# Examples: "Goodfellow et al. 2014", "Arjovsky and Bottou 2017", "Box and Muller (1958)", "Bishop 2006".
NAME = r"[A-ZÀ-Ž][\w-]+"
MENTION = re.compile(
    rf"\b({NAME}(?:, {NAME})*\sand\s{NAME}|{NAME}\set\sal\.|{NAME})\s\(?((?:19|20)\d\d[a-z]?)\b"
)
# Elements whose text is not changed.
UNTOUCHED = (
    "a",
    "code",
    "pre",
    "h1",
    "h2",
    "h3",
    "h4",
    "summary",
)


@cache
def papers():
    """{mention: address}"""
    rows = re.findall(r"^\* (.*?): \[.*?\]\((\S+)\)", PAPERS.read_text("utf-8"), re.M)
    return dict(rows)


def mentions(text):
    """The mentions in a text, in the form of papers(). A capitalized word before a year, as in "November 2026", counts
    too."""
    return [" ".join(found) for found in MENTION.findall(" ".join(text.split()))]


def linked(html):
    """The page with its links."""
    inside, parts = [], []
    for part in re.split(r"(<[^>]*>)", html):
        if tag := re.match(r"<(/?)(\w+)", part):
            if tag[2] in UNTOUCHED and not tag[1]:
                inside.append(tag[2])
            elif inside and tag[1] and tag[2] == inside[-1]:
                inside.pop()
        elif not inside:
            part = MENTION.sub(_link, part)
        parts.append(part)
    return "".join(parts)


def _link(found):
    address = papers().get(f"{' '.join(found[1].split())} {found[2]}")
    return f'<a href="{address}">{found[0]}</a>' if address else found[0]


def on_page_content(html, page, config, files):
    return html if page.file.src_uri == "papers.md" else linked(html)
