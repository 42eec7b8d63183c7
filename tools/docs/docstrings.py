"""A griffe extension that converts the reStructuredText in docstrings to Markdown for the site.

Roles become links, simple tables become Markdown tables, and indented examples become highlighted Python.
"""

import re

import griffe

ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`([^`]+)`")
RULE = re.compile(r"=+(?: +=+)+")
SECTION = re.compile(r"^(?:Args|Attributes|Returns|Raises):$", re.M)
EXAMPLE = re.compile(r"(?:\A|(?<=\n\n))(?: {4}.*(?:\n|\Z)|\n(?= {4}))+")


class Docstrings(griffe.Extension):
    def on_instance(self, *, obj, **_):
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text):
    section = SECTION.search(text)
    end = section.start() if section else len(text)
    text = EXAMPLE.sub(fenced, text[:end]) + text[end:]
    lines, table = [], []
    for line in text.splitlines():
        if RULE.fullmatch(line) or table:
            table.append(line)
            if sum(bool(RULE.fullmatch(each)) for each in table) == 3:
                lines += rows(table)
                table = []
        else:
            lines.append(ROLE.sub(r"[`\1`][\1]", line))
    return "\n".join(lines)


def fenced(example):
    code = re.sub("^ {4}", "", example[0], flags=re.M).rstrip()
    return f"```python\n{code}\n```\n"


def rows(table):
    """The rows of a simple table: rule, header, rule, rows (without a first cell: a continuation), rule."""
    starts = [column.start() for column in re.finditer("=+", table[0])]
    spans = list(zip(starts, [*starts[1:], None], strict=True))
    cells = []
    for line in table:
        if RULE.fullmatch(line):
            continue
        row = [line[a:b].strip().replace("|", "\\|") for a, b in spans]
        if row[0]:
            cells.append(row)
        else:
            cells[-1] = [
                f"{above} {more}".strip() for above, more in zip(cells[-1], row, strict=True)
            ]
    cells.insert(1, ["---"] * len(spans))
    return ["| " + " | ".join(row) + " |" for row in cells]
