"""Draws docs/mode-coverage/frechet.png, the Fréchet distances during MNIST's runs, from the lines of benchmarks/modes/.

python tools/docs/modes_plot.py
"""

import statistics

from matplotlib.figure import Figure
from modes_page import ROOT, SETTINGS, runs

from pygan.bench.plots import COLORS

VARIANTS = SETTINGS["mnist-500"].variants
PANELS = {"mnist": "4,500 training digits", "mnist-500": "500 training digits"}


def curve(rows):
    """The steps, and the median over the seeds of the distance after each."""
    curves = [[(at["step"], at["frechet_distance"]) for at in row["curve"]] for row in rows]
    return [
        (points[0][0], statistics.median(distance for _, distance in points))
        for points in zip(*curves, strict=True)
    ]


def main():
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (data, title) in zip(panels, PANELS.items(), strict=True):
        found = {name: rows for (name, _), rows in runs(data).items() if name in VARIANTS}
        for (name, rows), color in zip(found.items(), COLORS, strict=True):
            axes.semilogy(*zip(*curve(rows), strict=True), "o-", ms=3, color=color, label=name)
        axes.set(title=title, xlabel="steps")
        axes.spines[["top", "right"]].set_visible(False)
    ticks = (10, 20, 50, 100, 200)
    panels[0].set_yticks(ticks, map(str, ticks))
    panels[0].set_yticks([], minor=True)
    panels[0].set(ylabel="Fréchet distance")
    panels[1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(ROOT / "docs" / "mode-coverage" / "frechet.png", dpi=110)


if __name__ == "__main__":
    main()
