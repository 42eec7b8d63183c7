"""Writes docs/gallery/index.md: every page of the gallery with its title, its claim and its picture.

    python examples/gallery/index.py

The pages are read, not run; `make gallery` runs them first.
"""

import argparse
import re
from pathlib import Path

ORDER = (
    "pixel_loss",
    "maximum_likelihood",
    "game",
    "moving_maximum",
    "saturation",
    "stuck_at_log2",
    "dirac",
    "mode_collapse",
    "handwritten",
    "animation",
)
HEAD = """# Gallery

<!-- Made by examples/gallery/index.py from the pages that it lists; do not edit. -->

The theory in numbers. Each page takes a claim from the literature, gives the measured numbers, says whether they
support the claim, and lists what was not shown. The script named at its end generated the page, including picture and
numbers; `make gallery` runs them all. For samples of trained generators, see [samples](../samples.md).
"""


def entry(page):
    text = page.read_text("utf-8")
    title = re.match(r"# (.*)", text)[1]
    claim = re.search(r"^\*\*Claim\.\*\* (.*)", text, re.M)[1]
    caption, picture = re.search(r"^!\[(.*?)\]\((.*?)\)", text, re.M).groups()
    link = f'[<img src="{picture}" alt="{caption.replace(chr(34), "&quot;")}" width="480">]({page.name})'
    return f"## [{title}]({page.name})\n\n{claim}\n\n{link}\n"


def index(folder):
    pages = {page.stem: page for page in sorted(folder.glob("*.md")) if page.stem != "index"}
    first = [pages.pop(name) for name in ORDER if name in pages]
    return "\n".join([HEAD, *map(entry, [*first, *pages.values()])])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    docs = Path(__file__).resolve().parents[2] / "docs"
    parser.add_argument("--pages", type=Path, default=docs / "gallery")
    folder = parser.parse_args().pages
    (folder / "index.md").write_text(index(folder), "utf-8")
