"""Troubleshooting: the code raises the messages on the page, and each row has a cause and a remedy."""

import ast
import re
from functools import cache

import pytest
from helpers import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "| message |" not in line]
FOREIGN = (  # messages and names of PyTorch, Python and compilers
    *("Killed signal", "cuda: False", "module 'pygan' has no attribute", "fullgraph=True"),
    *("Expected more than 1 value per channel", "compiled with non-empty donated buffers"),
    *("does not currently support double backward", "use_reentrant=True, torch.utils.checkpoint"),
)


def strings(tree):
    """The strings of a module; for f-strings, their constant parts joined by …."""
    inside = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            yield "".join(parts)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in inside
        ):
            yield node.value


@cache
def raised():
    """Every message in the code."""
    python = [*(ROOT / "pygan").rglob("*.py"), *(ROOT / "tools" / "setup_helpers").glob("*.py")]
    texts = [s for path in python for s in strings(ast.parse(path.read_text("utf-8")))]
    native = [*(ROOT / "csrc").rglob("*.cpp"), *(ROOT / "csrc").rglob("*.h")]
    for path in [*native, *(ROOT / "cmake").glob("*.cmake")]:
        texts.append(re.sub(r'"\s*\n?\s*"', "", path.read_text("utf-8")))
    return "\n".join(texts)


def messages(row):
    """The messages in a row's first cell, split into their constant parts."""
    for text in re.findall(r"`([^`]+)`", row.split(" | ")[0]):
        if not text.startswith(FOREIGN) and " " in text:
            yield [piece.strip() for piece in text.split("…") if len(piece.strip()) > 3]


@pytest.mark.parametrize("row", ROWS)
def test_messages_are_raised(row):
    cells = row.strip("| ").split(" | ")
    assert len(cells) == 3 and all(cells)
    for pieces in messages(row):
        assert pieces and [piece for piece in pieces if piece not in raised()] == []


def test_most_rows_have_a_message():
    assert sum(any(messages(row)) for row in ROWS) > 25


def test_readme_links_to_troubleshooting():
    assert "docs/troubleshooting.md" in (ROOT / "README.md").read_text("utf-8")
