"""Copies the results of tools/gpu/check.sh into the repository, for tools/docs/benchmarks_page.py.

    python tools/gpu/keep.py benchmarks/DATE-h100 REPORT [REPORT ...]

A REPORT is an output folder of check.sh. Pass several if the stages ran in several commands; no two of them may contain
the same file. tools/docs/gpu_page.py describes the files. The logs of tests and sanitizers are not copied, but
summary.txt has a line for each.
"""

import argparse
import re
from pathlib import Path

COPIES = {"1-first.jsonl": "first.jsonl", "4-bench.json": "bench.json"}


def ncu_csv(log):
    """Nsight Compute's table, from the log of the stages bench and ncu."""
    lines = log.read_text("utf-8", errors="replace").splitlines()
    begin = next((k for k, line in enumerate(lines) if line.startswith('"ID"')), len(lines))
    rows = [line for line in lines[begin:] if line.startswith('"')]
    return "\n".join(rows) + "\n" if rows else ""


def kept_files(report):
    """{name: text} of the files to copy from a report, except for its summary."""
    found = {kept: report / name for name, kept in COPIES.items() if (report / name).exists()}
    texts = {kept: path.read_text("utf-8") for kept, path in found.items()}
    log = report / "4-bench.log"
    if log.exists() and (table := ncu_csv(log)):
        texts["ncu.csv"] = table
    return texts


def keep(folder, reports):
    summary, texts, origin = [], {}, {}
    for report in reports:
        lines = (report / "0-summary.txt").read_text("utf-8").splitlines()
        # Without the last lines of the benchmark and of Nsight Compute, which are paths and raw tables.
        ends = ("done after", "stopped after")
        summary += [re.sub(r': (Written: |").*', "", x) for x in lines if not x.startswith(ends)]
        for name, text in kept_files(report).items():
            if name in origin:
                raise SystemExit(
                    f"keep.py: only one report may have {name}, got {origin[name]} and {report}; nothing was kept."
                )
            texts[name], origin[name] = text, report
    folder.mkdir(parents=True, exist_ok=True)
    texts["summary.txt"] = "\n".join(summary) + "\n"
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="benchmarks/DATE-GPU")
    parser.add_argument("reports", type=Path, nargs="+", help="what was OUT")
    arguments = parser.parse_args()
    keep(arguments.folder, arguments.reports)
