"""Plots of a benchmark: the speedup of each op against its size, and whole training steps compared with plain
PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pygan.bench.report import count

__all__ = ["draw"]

# Okabe and Ito's colors, which color-blind readers can distinguish.
GRAY, COLORS = "0.45", ("#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#009E73", "#CC79A7")
BARS = {  # the implementations to draw, among all that were timed
    "plain PyTorch": ("plain PyTorch", "0.75"),
    "pygan, by hand": ("pygan's functions in a manual loop", COLORS[1]),
    "GANTrainer": ("GANTrainer", COLORS[0]),
    "GANTrainer, reuse_fakes, joint": ("GANTrainer, reuse_fakes and joint", COLORS[4]),
    "GANTrainer, one CUDA graph": ("GANTrainer, captured as CUDA graphs", COLORS[5]),
}
Row = Mapping[str, Any]


def draw(
    folder: Path, about: Mapping[str, Any], ops: Sequence[Row], steps: Sequence[Row]
) -> list[Path]:
    """Write gain.png and steps.png from the rows of a result's JSON; a plot without rows is not written.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("the plots need matplotlib: pip install matplotlib") from error

    n = about["threads"]
    where = f"{about['device']}, {about['backend']}, {n} {'thread' if n == 1 else 'threads'}"
    if about["device"] != "cpu":
        where = about["device"]
    made: list[Path] = []

    def save(figure: Any, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        made.append(folder / name)
        figure.savefig(made[-1], dpi=120)

    if families := _families(ops):
        figure = Figure(figsize=(6.4, 3.9 * len(families)), layout="constrained")
        panels = figure.subplots(len(families), squeeze=False).flat
        for axes, (title, curves) in zip(panels, families.items()):
            _gains(axes, title, curves)
        figure.suptitle(f"How many times faster than PyTorch\n({where})", fontsize=11)
        save(figure, "gain.png")
    if models := _models(steps):
        bars = sum(len(ways) for ways in models.values())
        figure = Figure(figsize=(6.4, 1.9 + 0.2 * (bars + len(models))), layout="constrained")
        _steps(figure.subplots(), models)
        figure.suptitle(f"Time of a whole training step\n({where})", fontsize=11)
        figure.legend(loc="outside lower center", ncols=1, frameon=False, fontsize=9)
        save(figure, "steps.png")
    return made


def _families(ops: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """{title: {label: rows of several sizes}} in fp32: training on the default losses (or on those that were timed),
    and noise."""
    curves: dict[tuple[str, str], list[Row]] = {}
    for row in ops:
        if row["dtype"] == "float32":
            curves.setdefault((row["op"], row["work"]), []).append(row)
    curves = {key: rows for key, rows in curves.items() if len(rows) > 1}
    losses = {k: r for k, r in curves.items() if "noise" not in k[0] and k[1] != "forward"}
    default = {k: r for k, r in losses.items() if k[0].endswith("[non_saturating]")}
    noise = {k: r for k, r in curves.items() if "noise" in k[0]}
    families = {"losses, forward and backward": default or losses, "instance noise": noise}
    few = len(COLORS)
    return {
        title: {_label(*key): rows for key, rows in list(found.items())[:few]}
        for title, found in families.items()
        if found
    }


def _label(op: str, work: str) -> str:
    return op if work == "forward" else f"{op.partition('[')[0]}, {work}"


def _gains(axes: Any, title: str, curves: Mapping[str, Sequence[Row]]) -> None:
    for (label, rows), color in zip(curves.items(), COLORS):
        n, gain = [row["n"] for row in rows], [row["gain"] for row in rows]
        axes.plot(n, gain, "o-", color=color, ms=4, label=label)
    axes.axhline(1, color=GRAY, lw=1, ls="--", label="1: as fast as the fastest other way")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    sizes = sorted({row["n"] for rows in curves.values() for row in rows})
    axes.set_xticks(sizes, map(count, sizes))
    gains = [row["gain"] for rows in curves.values() for row in rows]
    ticks = [2.0**k for k in range(-8, 9) if min(1, *gains) / 2 < 2.0**k < 2 * max(gains)]
    axes.set_yticks(ticks, [f"{g:g} ×" for g in ticks])
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("logits of each kind" if "losses" in title else "elements")
    axes.spines[["top", "right"]].set_visible(False)
    # Below the axes, so that it does not hide a curve.
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.45, -0.2))


def _models(steps: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows to draw for each model that was also timed in plain PyTorch."""
    models: dict[str, list[Row]] = {}
    for step in steps:
        if step["way"] in BARS and step["to_plain"] is not None:
            models.setdefault(step["model"], []).append(step)
    return models


def _steps(axes: Any, models: Mapping[str, Sequence[Row]]) -> None:
    y, ticks, named = 0.0, [], set()
    for ways in models.values():
        ticks.append(y + (len(ways) - 1) / 2)
        for step in ways:
            label, color = BARS[step["way"]]
            share = 100 * step["to_plain"]
            axes.barh(y, share, color=color, label=None if label in named else label)
            axes.text(share + 1, y, f"{share:.0f} %", va="center_baseline", fontsize=8)
            named.add(label)
            y += 1
        y += 1
    axes.set_yticks(ticks, [model.replace(", batch", ",\nbatch") for model in models], fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(y - 1, -1)
    longest = max(100 * step["to_plain"] for ways in models.values() for step in ways)
    axes.set_xlim(0, 1.15 * max(100, longest))
    axes.set_xlabel("% of plain PyTorch's time; shorter is faster")
    axes.spines[["top", "right"]].set_visible(False)
