"""Markdown tables for the pages that scripts write."""

from pygan.bench import report


def table(columns, lines):
    made = []
    printed = report.Table(columns, markdown=True, to=made.append)
    for line in lines:
        printed.line(line)
    return "\n".join(made) + "\n"
