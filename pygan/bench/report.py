"""Tables for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pygan.bench.scaling import Fit

__all__ = [
    "COLUMNS",
    "STEPS_COLUMNS",
    "Table",
    "cells",
    "fit_line",
    "geometric_mean",
    "steps_cells",
    "write",
]

Cells = Sequence[str]


def amount(bytes: int) -> str:
    """Format a number of bytes as in "1.5 MiB"."""
    size, units = float(bytes), iter(("B", "KiB", "MiB", "GiB"))
    unit = next(units)
    while size >= 1024 and unit != "GiB":
        size, unit = size / 1024, next(units)
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"


def count(n: int) -> str:
    """Format a count as in "64 Ki"."""
    for shift, unit in ((30, "Gi"), (20, "Mi"), (10, "Ki")):
        if n >> shift and not n % (1 << shift):
            return f"{n >> shift} {unit}"
    return str(n)


def micro(us: float) -> str:
    """Format a time with at most four digits."""
    return f"{us:.1f}" if us < 1000 else f"{us:.0f}"


def _spread(row: Mapping[str, Any], key: str) -> float:
    """Half the interquartile range, in % of the median."""
    median, low, high = (row[f"{key}{part}_us"] for part in ("median", "low", "high"))
    return 50 * (high - low) / median


def spread(row: Mapping[str, Any], key: str = "") -> str:
    """Format the spread as in "±3 %"."""
    return f"±{_spread(row, key):.0f} %"


NOISY = 20  # in %: ratios with a larger spread are marked
MARK = " †"


def marked(row: Mapping[str, Any], key: str = "") -> str:
    """The suffix of a ratio: MARK if the spread of the time exceeds NOISY."""
    return MARK if _spread(row, key) > NOISY else ""


COLUMNS = (
    *("op", "work", "dtype", "N", "gain", "pygan µs", "eager µs", "compiled µs", "spread"),
    *("vs. reference", "reference", "memory: eager", "pygan"),
)


def cells(row: Mapping[str, Any]) -> Cells:
    """The cells of an op's row, for COLUMNS."""
    compiled = row["compiled_median_us"]
    return (
        *(row["op"], row["work"], row["dtype"], count(row["n"])),
        *(f"{row['gain']:.1f} ×{marked(row, 'pygan_')}", micro(row["pygan_median_us"])),
        *(micro(row["eager_median_us"]), micro(compiled) if compiled else "–"),
        *(spread(row, "pygan_"), f"{row['of_limit']:.1f} ×", row["limited_by"]),
        *(amount(row["eager_memory"]), amount(row["pygan_memory"])),
    )


class Table:
    """Prints lines immediately, as aligned text or as Markdown; the columns are as wide as their titles."""

    def __init__(
        self,
        columns: Cells,
        *,
        widths: Sequence[int] = (),
        markdown: bool = False,
        to: Callable[[str], Any] = print,
    ) -> None:
        self.to, self.markdown = to, markdown
        self.widths = [*widths, *(max(8, len(c)) for c in columns[len(widths) :])]
        self.line(columns)
        if markdown:
            to("|" + "---|" * len(columns))

    def line(self, values: Cells) -> None:
        """Print one row."""
        if self.markdown:
            self.to("| " + " | ".join(values) + " |")
        else:
            padded = [v.ljust(w) for v, w in zip(values, self.widths, strict=True)]
            self.to("  ".join(padded).rstrip())


STEPS_COLUMNS = (
    *("model", "way", "µs", "vs. PyTorch", "vs. manual loop", "spread", "CPU µs", "ops"),
    *("kernels", "MFLOP", "memory"),
)


def steps_cells(steps: Sequence[Mapping[str, Any]]) -> Iterator[Cells]:
    """The cells of each step, for STEPS_COLUMNS."""

    for step in steps:

        def more(ratio: float | None, mark: str = marked(step)) -> str:
            return "–" if ratio is None else f"{100 * (ratio - 1):+.1f} %{mark}"

        yield (
            *(step["model"], step["way"], micro(step["median_us"])),
            *(more(step["to_plain"]), more(step["to_by_hand"]), spread(step)),
            *(micro(step["cpu_us"]), str(step["ops"]), str(step["kernels"])),
            # Results of older runs have no such count.
            *(f"{step['flops'] / 1e6:.1f}" if "flops" in step else "–", amount(step["memory"])),
        )


def fit_line(fit: Fit) -> str:
    """Describe a fit in a sentence."""
    threads = "1 thread" if fit.threads == 1 else f"{fit.threads} threads"
    return (
        f"{fit.op}, {threads}: {fit.c:.1f} µs + N / {fit.rate / 1000:.2f} G elements/s, "
        f"off by a factor of {fit.worst:.2f} at most, {fit.step:.2f} from one size to the next"
    )


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean of ratios."""
    return math.exp(sum(map(math.log, values)) / len(values))


def write(folder: Path, name: str, result: dict[str, Any]) -> list[Path]:
    """Write NAME.json, and each of its lists of rows as a CSV file with the machine on every line."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"{name}.json"]
    written[0].write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
    for key, rows in result.items():
        if isinstance(rows, list) and rows:
            path = folder / f"{key}.csv"
            lines = [{**row, **result["about"]} for row in rows]
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, lines[0])
                writer.writeheader()
                writer.writerows(lines)
            written.append(path)
    return written
