"""Markdown tables for generated pages."""

import re

from pygan.bench import plots, report


def table(columns, lines):
    made = []
    printed = report.Table(columns, markdown=True, to=made.append)
    for line in lines:
        # A no-break space keeps a factor and its mark together in narrow columns.
        printed.line([re.sub(r"(?<=\d) (?=×( †)?$)| (?=†)", "&nbsp;", cell) for cell in line])
    return "\n".join(made) + "\n"


def folded(summary, text):
    """A collapsible section, for the site (with the extension md_in_html) and for repository browsers."""
    return f'<details markdown="1">\n<summary>{summary}</summary>\n\n{text}\n</details>\n'


def grouped(rows, key):
    """{value of the key: rows}, in the order of first occurrence."""
    groups = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def ops_by_name(rows):
    """All rows of the ops: a table for each op, in a collapsible section for each function."""
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
    """A line per model and a column per plotted implementation: µs, and the difference from plain PyTorch."""
    ways = [way for way in plots.BARS if any(step["way"] == way for step in steps)]
    lines = []
    for model, its in grouped(steps, "model").items():
        cells = dict.fromkeys(ways, "–")
        for step, (_, way, us, difference, *_) in zip(its, report.steps_cells(its), strict=True):
            compared = step["to_plain"] not in (None, 1)
            # No-break spaces keep a cell on one line in narrow tables.
            both = f"{us} ({difference})".replace(" ", "&nbsp;")
            cells |= {way: both if compared else us}
        lines.append((model, *(cells[way] for way in ways)))
    return table(("model, µs a step", *ways), lines)


def all_steps(steps):
    """Every row and column, in a collapsible section."""
    rows = table(report.STEPS_COLUMNS, report.steps_cells(steps))
    return folded(f"All {len(steps)} rows", rows)


def chosen(columns, names, lines):
    """A table of the columns in `names`, in that order."""
    order = [columns.index(name) for name in names]
    return table(names, [[cells[i] for i in order] for cells in lines])


def csv_links(folder):
    """Links to the CSV files in a folder of results, which csv_files.py adds to the site."""
    return ", ".join(
        f"[{path.name}](../benchmarks/{folder.name}/{path.name})"
        for path in sorted(folder.glob("*.csv"))
    )
