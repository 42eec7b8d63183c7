"""Markdown tables for the pages that scripts write."""

import re

from pygan.bench import plots, report


def table(columns, lines):
    made = []
    printed = report.Table(columns, markdown=True, to=made.append)
    for line in lines:
        printed.line(line)
    return "\n".join(made) + "\n"


def folded(summary, text):
    """Hidden until a reader opens it, on the site (by the extension md_in_html) and where a repository is shown."""
    return f'<details markdown="1">\n<summary>{summary}</summary>\n\n{text}\n</details>\n'


def grouped(rows, key):
    """{value of the key: its rows}, in the order in which they first occur."""
    groups = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def ops_by_name(rows):
    """All rows of ops: a table for each, folded by function."""
    parts = []
    functions = [row | {"function": re.split(r"[\[(]", row["op"])[0]} for row in rows]
    for function, its in grouped(functions, "function").items():
        gains = sorted(row["gain"] for row in its)
        tables = [
            f"**{op}**\n\n" + table(report.COLUMNS[1:], [report.cells(row)[1:] for row in same])
            for op, same in grouped(its, "op").items()
        ]
        summary = f"{function}: {len(its)} rows, {gains[0]:.1f} to {gains[-1]:.1f} × as fast"
        parts.append(folded(summary, "\n".join(tables)))
    return "\n".join(parts)


def steps_by_model(steps):
    """A line for each model, a column for each of the ways that are drawn: µs, and the difference to plain PyTorch."""
    ways = [way for way in plots.BARS if any(step["way"] == way for step in steps)]
    lines = []
    for model, its in grouped(steps, "model").items():
        cells = dict.fromkeys(ways, "–")
        for step, (_, way, us, difference, *_) in zip(its, report.steps_cells(its), strict=True):
            compared = step["to_plain"] not in (None, 1)
            # On one line also where the table is narrow.
            both = f"{us} ({difference})".replace(" ", "&nbsp;")
            cells |= {way: both if compared else us}
        lines.append((model, *(cells[way] for way in ways)))
    return table(("model, µs a step", *ways), lines)


def all_steps(steps):
    """Every row and column, folded."""
    rows = table(report.STEPS_COLUMNS, report.steps_cells(steps))
    return folded(f"All {len(steps)} rows", rows)


def chosen(columns, names, lines):
    """The table of some of the columns, in the order of `names`."""
    order = [columns.index(name) for name in names]
    return table(names, [[cells[i] for i in order] for cells in lines])


def csv_links(folder):
    """Links to the CSV files of a folder of results, which csv_files.py puts on the site."""
    return ", ".join(
        f"[{path.name}](../benchmarks/{folder.name}/{path.name})"
        for path in sorted(folder.glob("*.csv"))
    )
