"""Pictures of a benchmark: time against N with the break-even point, the roofline, and the scaling with its fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pygan.bench.ops import Row
from pygan.bench.scaling import Fit, Point

__all__ = ["break_even", "draw"]

# Okabe and Ito's colours, which those who see fewer colours can tell apart.
BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#E69F00", "#009E73", "0.5"
RED, SKY, PINK = "#D55E00", "#56B4E9", "#CC79A7"


def break_even(rows: Sequence[Row]) -> float | None:
    """The size from which pygan is faster than every other way, between two sizes by their logarithms; 1 or less where
    it is from the smallest size on, None where it is not at the greatest."""
    rows = sorted(rows, key=lambda row: row.n)
    losing = [i for i, row in enumerate(rows) if row.gain <= 1]
    if not losing:
        return rows[0].n
    if losing[-1] == len(rows) - 1:
        return None
    before, after = rows[losing[-1]], rows[losing[-1] + 1]
    share = -math.log(before.gain) / (math.log(after.gain) - math.log(before.gain))
    return before.n * (after.n / before.n) ** share


def draw(
    folder: Path, about: dict[str, Any], rows: Sequence[Row], points: list[Point], fits: list[Fit]
) -> list[Path]:
    """Writes what there is to draw.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("the plots need matplotlib: pip install matplotlib") from error

    where = f"{about['device']}, {about['backend']}, {about['threads']} threads"
    made: list[Path] = []

    def save(figure: Any, name: str) -> None:
        made.append(folder / name)
        figure.savefig(made[-1], dpi=110)

    curves: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        curves.setdefault((row.op, row.work, row.dtype), []).append(row)
    curves = {key: c for key, c in curves.items() if len(c) > 1}
    if curves:
        shown = _chosen(curves)
        figure = Figure(figsize=(10, 3.1 * math.ceil(len(shown) / 2)), layout="constrained")
        axes = figure.subplots(math.ceil(len(shown) / 2), 2, squeeze=False).flat
        for (key, curve), each in zip(shown.items(), axes):
            _times(each, key, curve)
        for each in list(axes)[len(shown) :]:
            each.remove()
        figure.suptitle(f"Time of a call against its size ({where})")
        save(figure, "time.png")
        figure = Figure(figsize=(8, 5), layout="constrained")
        _roofline(figure.subplots(), shown)
        figure.suptitle(f"What a call moves a second, and what it could ({where})", fontsize=11)
        save(figure, "roofline.png")
    if points:
        figure = Figure(figsize=(8, 5), layout="constrained")
        _scaling(figure.subplots(), points, fits)
        save(figure, "scaling.png")
    return made


def _chosen(curves: dict[tuple[str, str, str], list[Row]]) -> dict[tuple[str, str, str], list[Row]]:
    """Eight at most: the default losses and the noise first, and training before evaluation."""

    def rank(key: tuple[str, str, str]) -> tuple[bool, bool]:
        first = key[0].endswith("_loss[non_saturating]") or key[0].startswith("instance_noise")
        return not first, "_loss" in key[0] and key[1] == "forward"

    return {key: curves[key] for key in sorted(curves, key=rank)[:8]}


def _times(axes: Any, key: tuple[str, str, str], curve: list[Row]) -> None:
    n = [row.n for row in curve]
    ways = [("eager", GRAY, "o-"), ("compiled", ORANGE, "s-"), ("pygan", BLUE, "o-")]
    for name, color, style in ways:
        timings = [getattr(row, name) for row in curve]
        if all(timings):
            label = {"compiled": "torch.compile"}.get(name, name)
            axes.plot(n, [t.median for t in timings], style, color=color, ms=3.5, label=label)
            low, high = [t.low for t in timings], [t.high for t in timings]
            axes.fill_between(n, low, high, color=color, alpha=0.2, linewidth=0)
    axes.plot(n, [row.limit for row in curve], ":", color=GREEN, label="limit")
    even = break_even(curve)
    if even is None:
        said = "slower at the greatest size"
    elif even <= n[0]:
        said = f"faster from N = {n[0]} on"
    else:
        said = f"faster from N ≈ {even:.0f} on"
        axes.axvline(even, color=RED, lw=0.8, ls="--")
    axes.set(xscale="log", yscale="log", xlabel="N, elements", ylabel="µs a call")
    axes.set_title(f"{key[0]}\n{key[1]}, {key[2]}: {said}", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7)


def _roofline(axes: Any, curves: dict[tuple[str, str, str], list[Row]]) -> None:
    """Against the bytes of a call: left of the knee the roof is the dispatch, right of it memory or the generator."""
    # Four, which are enough for one picture; the generator's lie beside the discriminator's.
    order = sorted(curves.items(), key=lambda item: item[0][0].startswith("generator"))
    for (key, curve), color in zip(order, (BLUE, ORANGE, GREEN, PINK)):
        moved = [row.moved for row in curve]
        rate = [row.moved / row.pygan.median / 1e3 for row in curve]
        roof = [row.moved / row.limit / 1e3 for row in curve]
        axes.plot(moved, rate, "o-", color=color, ms=4, label=", ".join(key))
        axes.plot(moved, roof, ":", color=color)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="bytes that a call must read and write",
        ylabel="GB/s (dotted: the limit of each)",
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7)


def _scaling(axes: Any, points: list[Point], fits: list[Fit]) -> None:
    for fit, color in zip(fits, (BLUE, ORANGE, GREEN, RED, SKY, PINK)):
        chosen = [p for p in points if (p.op, p.threads) == (fit.op, fit.threads)]
        n = [p.n for p in chosen]
        label = f"{fit.op}, {fit.threads} thread{'s' if fit.threads > 1 else ''}"
        axes.plot(n, [p.time.median for p in chosen], "o", color=color, ms=4, label=label)
        axes.plot(n, [fit.c + x / fit.rate for x in n], "-", color=color, lw=0.8)
    axes.set(xscale="log", yscale="log", xlabel="N, elements (fp32)", ylabel="µs a call")
    axes.set_title("Time against size; the lines are c + N / rate", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
