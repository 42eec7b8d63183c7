"""A page of the gallery: a claim, the numbers that came out, whether they bear it out, and one picture.

A script makes a Page, calls `check` for each statement, and `write` at the end: docs/gallery/NAME.md and NAME.png. A
statement that does not hold is written down as such; if it is not known to fail, the script ends with an error.
"""

import argparse
import io
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image

# Okabe and Ito's colors, which those who see fewer colors can tell apart.
BLUE, ORANGE, GREEN, RED, PINK, SKY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
)
GRAY = "0.45"
ROOT = Path(__file__).resolve().parents[2]


def cell(text):
    """The text of a table's cell, which a vertical bar would end."""
    return text.replace("|", r"\|")


class Page:
    """Reads the command line: --out FOLDER (docs/gallery), --jobs N (processes for the seeds)."""

    def __init__(self, title, claim, *, source):
        """`source`: of the claim, with the equation or the section."""
        parser = argparse.ArgumentParser(description=f"{title}. {claim}")
        parser.add_argument("--out", type=Path, default=ROOT / "docs" / "gallery")
        parser.add_argument("--jobs", type=int, default=2)
        args = parser.parse_args()
        self.out, self.jobs = args.out, args.jobs
        self.out.mkdir(parents=True, exist_ok=True)
        self.script = Path(sys.argv[0])
        self.title, self.claim, self.source = title, claim, source
        self.checks, self.picture, self.surprises = [], None, []
        self.began = time.perf_counter()

    def over(self, function, *arguments):
        """[function(*each) for each in zip(*arguments)], in processes with one thread each: runs and seeds."""
        with ProcessPoolExecutor(
            self.jobs, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            return list(pool.map(function, *arguments))

    def check(self, statement, measured, holds, *, expected=True):
        """What was found about a statement. `expected=False` for one that is known not to hold."""
        holds = bool(holds)
        self.checks.append((statement, measured, holds))
        print(f"{'holds' if holds else 'DOES NOT HOLD'}: {statement}: {measured}", flush=True)
        if holds != expected:
            self.surprises.append(statement)

    def show(self, figure, caption):
        """The picture, which says what the caption says.

        Raises:
            ValueError: a legend lies on a curve, or a title reaches beyond the edge.
        """
        if problems := list(misplaced(figure)):
            raise ValueError("; ".join(problems))
        self.picture = f"{self.script.stem}.png"
        figure.savefig(self.out / self.picture, dpi=110)
        self.caption = caption

    def show_animation(self, figures, caption):
        """A GIF of the figures, which rests on the last; it takes the place of the picture."""
        frames = []
        for each in figures:
            each.savefig(made := io.BytesIO(), dpi=100)
            frames.append(Image.open(made).convert("RGB").quantize(64))
        self.picture, self.caption = f"{self.script.stem}.gif", caption
        frames[0].save(
            self.out / self.picture,
            save_all=True,
            append_images=frames[1:],
            duration=[130] * (len(frames) - 1) + [2500],  # milliseconds
            loop=0,
        )

    def write(self, *, text="", not_shown):
        """The page; `not_shown`: what a reader might take from it and must not."""
        rows = [
            f"| {cell(s)} | {cell(m)} | {'holds' if h else '**does not hold**'} |"
            for s, m, h in self.checks
        ]
        parts = [
            f"# {self.title}",
            f"**Claim.** {self.claim} ({self.source})",
            f"![{self.caption}]({self.picture})\n*{self.caption}*",
            text,
            "## Results",
            "\n".join(["| statement | measured | |", "|---|---|---|", *rows]),
            "## What was not shown",
            "\n".join(f"* {line}" for line in not_shown),
            f"Made by `python examples/gallery/{self.script.name}`.",
        ]
        page = self.out / f"{self.script.stem}.md"
        page.write_text("\n\n".join(part for part in parts if part) + "\n", "utf-8")
        print(f"{page}: {time.perf_counter() - self.began:.0f} s")
        if self.surprises:
            raise SystemExit(f"not as the page expects it: {'; '.join(self.surprises)}")


def figure(width=7.0, height=3.8, columns=1, rows=1, **options):
    """A figure and its axes, without the boxes that carry nothing."""
    made = Figure(figsize=(width, height), layout="constrained")
    axes = made.subplots(rows, columns, **options)
    for each in axes.flat if hasattr(axes, "flat") else [axes]:
        each.spines[["top", "right"]].set_visible(False)
    return made, axes


def misplaced(figure):
    """What a reader of the picture could not read."""
    figure.draw_without_rendering()
    for axes in figure.axes:
        title = axes.title.get_window_extent()
        if axes.get_title() and (title.x0 < 0 or title.x1 > figure.bbox.x1):
            yield f"the title {axes.get_title()!r} reaches beyond the edge"
        if legend := axes.get_legend():
            box = legend.get_window_extent()
            for line in axes.lines:
                if box.count_contains(line.get_transform().transform(line.get_xydata())):
                    yield f"the legend lies on the curve {line.get_label()!r}"


def spread(values, digits=3):
    """Median, least and most, as in "0.52 (0.41 to 0.60)"."""
    values = [float(x) for x in values]
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
