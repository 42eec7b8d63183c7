"""Errors say what an argument must be and what was given: "op: argument must ..., got ..."."""

import ast
import re

from helpers import ROOT


def python_messages():
    """The text of each raise statement in the package, with names for what is filled in."""
    for path in (ROOT / "pygan").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Raise) and node.exc is not None:
                parts = [
                    part.value if isinstance(part, ast.Constant) else f"<{part.id}>"
                    for part in ast.walk(node.exc)
                    if isinstance(part, (ast.Constant, ast.Name))
                ]
                yield f"{path.name}:{node.lineno}", " ".join(map(str, parts))


def checks_in_cpp():
    for path in (ROOT / "csrc").rglob("*.*"):
        for check in re.findall(r"TORCH_CHECK\w*\((.+?)\);\n", path.read_text("utf-8"), re.DOTALL):
            yield path.name, check


def test_errors_that_say_what_must_be_say_what_was_given():
    messages = [*python_messages(), *checks_in_cpp()]
    requiring = [(place, text) for place, text in messages if re.search(r"\bmust\b", text)]
    assert len(requiring) > 400
    # Another error in the message quotes what was given.
    assert [
        (place, text)
        for place, text in requiring
        if not re.search(r"\bgot\b|<(got|must|error)>", text)
    ] == []
