"""Keeps what tools/gpu/check.sh wrote, for tools/docs/benchmarks_page.py to show.

    python tools/gpu/keep.py benchmarks/DATE-h100 REPORT [REPORT ...]

A REPORT is a folder that was check.sh's OUT; of several, each has what the others lack. tools/docs/gpu_page.py says
what the kept files are. The logs of tests and sanitizers are not kept, but a line of each is in summary.txt.
"""

import argparse
import re
import shutil
from pathlib import Path

COPIES = {"1-first.jsonl": "first.jsonl", "4-bench.json": "bench.json"}


def ncu_csv(log):
    """Nsight Compute's table in the log of the stages bench and ncu."""
    lines = log.read_text("utf-8", errors="replace").splitlines()
    begin = next((k for k, line in enumerate(lines) if line.startswith('"ID"')), len(lines))
    rows = [line for line in lines[begin:] if line.startswith('"')]
    return "\n".join(rows) + "\n" if rows else ""


def keep(folder, reports):
    folder.mkdir(parents=True, exist_ok=True)
    summary = []
    for report in reports:
        lines = (report / "0-summary.txt").read_text("utf-8").splitlines()
        # Without paths and raw tables, which are the last lines of the benchmark and of Nsight Compute.
        summary += [re.sub(r': (Written: |").*', "", x) for x in lines if not x.startswith("done")]
        for name, kept in COPIES.items():
            if (report / name).exists():
                shutil.copyfile(report / name, folder / kept)
        log = report / "4-bench.log"
        if log.exists() and (table := ncu_csv(log)):
            (folder / "ncu.csv").write_text(table, "utf-8")
    (folder / "summary.txt").write_text("\n".join(summary) + "\n", "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="benchmarks/DATE-GPU")
    parser.add_argument("reports", type=Path, nargs="+", help="what was OUT")
    arguments = parser.parse_args()
    keep(arguments.folder, arguments.reports)
