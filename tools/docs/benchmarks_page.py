"""Writes docs/benchmarks.md from the benchmarks' docstrings, benchmarks/modes.jsonl and the README's tables.

python tools/docs/benchmarks_page.py
"""

import argparse
import ast
import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from modes import PUBLISHED, mean

ROOT = Path(__file__).resolve().parents[2]

HEAD = """# Benchmarks

<!-- Made by tools/docs/benchmarks_page.py from the files that it names; do not edit. -->

What each script of `benchmarks/` measures, in its own words, and what is kept of its runs. To make numbers for another
machine, run them there; `make gpu-check` does on one with a GPU.
"""


def described(script):
    """Its docstring, with the command as a block."""
    text = ast.get_docstring(ast.parse((ROOT / "benchmarks" / script).read_text("utf-8")))
    return f"## {script}\n\n{text}\n"


def section_of_readme(title):
    text = (ROOT / "README.md").read_text("utf-8")
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0].strip() + "\n"


def modes():
    """A table for each kind of data: mean and standard deviation over the runs of each variant."""
    lines = (ROOT / "benchmarks" / "modes.jsonl").read_text("utf-8").splitlines()
    runs = {}
    for row in map(json.loads, lines):
        runs.setdefault(row["data"], {}).setdefault(row["variant"], []).append(row)
    for data, variants in runs.items():
        quality = "sure" if data == "stacked-digits" else "high_quality"
        yield f"| {data} | modes | {quality.replace('_', ' ')} | reverse KL | seconds | runs |"
        yield "|---|---|---|---|---|---|"
        yield from (f"| {line} | | |" for line in PUBLISHED[data])
        for variant, rows in variants.items():
            cells = [mean(rows, key) for key in ("modes", quality, "reverse_kl")]
            cells += [f"{statistics.median(row['seconds'] for row in rows):.0f}", str(len(rows))]
            yield f"| {variant} | " + " | ".join(cells) + " |"
        yield ""


def page():
    parts = [HEAD]
    parts += [described("losses.py"), described("noise.py")]
    parts += ["### Kept: losses and noise\n", "(The README's section on speed.)\n"]
    parts += [section_of_readme("Speed"), described("trainer.py")]
    parts += ["What came out is in [Training for real](training.md#what-the-trainer-costs).\n"]
    parts += [described("modes.py"), "### Kept: modes covered\n"]
    parts += [
        "All of `benchmarks/modes.jsonl`; what follows from it is in [Modes covered](mode-coverage.md).\n"
    ]
    return "\n".join([*parts, *modes()])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.md")
    parser.parse_args().out.write_text(page(), "utf-8")
