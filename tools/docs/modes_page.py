"""Writes the tables of docs/mode-coverage.md, each between its markers, from the lines of benchmarks/modes/.

    python tools/docs/modes_page.py

A row is a variant with a number of steps: the mean and standard deviation over the seeds. The published rows of
benchmarks/modes_settings.py are added, and runs with other settings (--set) are left out.
"""

import argparse
import json
import re
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from modes_settings import SETTINGS, VARIANTS
from tables import table

ROOT = Path(__file__).resolve().parents[2]
NAMES = {
    "modes": "modes",
    "high_quality": "high quality",
    "sure": "sure",
    "reverse_kl": "reverse KL",
    "frechet_distance": "Fréchet",
    "precision": "precision",
    "recall": "recall",
    "coverage": "coverage",
    "label_accuracy": "label",
}
SHARES = ("high_quality", "sure", "precision", "recall", "coverage", "label_accuracy")
MARK = re.compile(r"(<!-- modes of ([\w-]+) -->\n).*?(<!-- end of modes -->\n)", re.S)


def runs(data):
    """{(variant, steps): lines}, with the variants in the order of the table."""
    path = ROOT / "benchmarks" / "modes" / f"{data}.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    rows = [row for row in map(json.loads, lines) if "set" not in row]
    order = list(VARIANTS)
    found = {}
    for row in sorted(rows, key=lambda r: (order.index(r["variant"]), r["steps"], r["seed"])):
        found.setdefault((row["variant"], row["steps"]), []).append(row)
    return found


def mean(rows, measure):
    """The mean over the rows, and the standard deviation if there are several."""
    values = [float(row[measure]) for row in rows]  # "Infinity" if no sample was of high quality
    scale, unit, digits = (100, " %", 1) if measure in SHARES else (1, "", 3)
    digits = {"modes": 1, "frechet_distance": 1}.get(measure, digits)
    if measure == "reverse_kl" and statistics.mean(values) < 0.01:
        digits = 4
    spread = f" ± {scale * statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{scale * statistics.mean(values):.{digits}f}{spread}{unit}"


def modes_table(data):
    """The table for one data set, or a paragraph if there are no runs."""
    found = runs(data)
    if not found:
        return "Not run yet.\n"
    all_rows = [row for rows in found.values() for row in rows]
    measures = [m for m in NAMES if any(m in row for row in all_rows)]
    if "precision" in measures and "sure" in measures:
        # A classifier can be sure of anything; precision is the better measure.
        measures.remove("sure")
    lines = []
    for name, values in SETTINGS[data].published:
        lines.append((name, *(values.get(m, "") for m in measures), "", "", ""))
    for (variant, steps), rows in found.items():
        cells = [mean(rows, m) if m in rows[0] else "" for m in measures]
        seconds = statistics.median(row["cpu_seconds"] for row in rows)
        lines.append((variant, *cells, f"{steps:,}", f"{seconds:.0f}", str(len(rows))))
    columns = (data, *(NAMES[m] for m in measures), "steps", "CPU seconds", "seeds")
    return table(columns, lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "mode-coverage.md")
    parser.add_argument("--out", type=Path, help="default: the page itself")
    args = parser.parse_args()
    text = args.page.read_text("utf-8")
    made = MARK.sub(lambda m: f"{m[1]}\n{modes_table(m[2])}\n{m[3]}", text)
    (args.out or args.page).write_text(made, "utf-8")


if __name__ == "__main__":
    main()
