"""Plots every noise schedule over the steps: docs/schedules.png.

    python examples/plot_schedules.py --out docs/schedules.png

The schedules that respond to the discriminator are shown with a model of one, without training: the logits of a batch
of real samples are normal, their mean rises and falls as if the discriminator overfitted for a while, and noise lowers
it.
"""

import argparse
import math
from pathlib import Path

import torch
from matplotlib.figure import Figure

import pygan
from pygan import schedules

STEPS, BATCH, TARGET = 2000, 64, 0.6
# Okabe and Ito's colors, which color-blind readers can distinguish.
BLUE, ORANGE, GREEN, RED, PINK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"


def overfitting(step):
    """Mean logit of real samples without noise: low, then high in the middle of the run, then low again."""
    return 0.5 + 2.5 * math.sin(math.pi * step / STEPS) ** 2


def simulate(schedule, halving, each):
    """Run a schedule with a model of a discriminator, whose mean logit is halved by noise of `halving`.

    Calls each(step, measure), and returns the measures.
    """
    measures = []
    for step in range(STEPS):
        mean = overfitting(step) / (1 + (schedule.sigma / halving) ** 2)
        measure = (torch.randn(BATCH) + mean).sign().mean()
        each(step)
        schedule.step(measure)
        measures.append(measure.item())
    return measures


def draw_fixed(axes):
    for label, schedule, color, style in (
        ("Constant(0.1)", schedules.Constant(0.1), "0.4", (0, (1, 1))),
        ("Linear(0.5, 0.0, 1500)", schedules.Linear(0.5, 0.0, 1500), BLUE, "-"),
        ("Cosine(0.5, 0.0, 1500)", schedules.Cosine(0.5, 0.0, 1500), ORANGE, "--"),
        (
            "Exponential(0.5, 0.998, end=0.02)",
            schedules.Exponential(0.5, 0.998, end=0.02),
            GREEN,
            "-.",
        ),
        (
            "Step([0.4, 0.2, 0.05], [600, 1200])",
            schedules.Step([0.4, 0.2, 0.05], [600, 1200]),
            RED,
            (0, (6, 2, 1, 2, 1, 2)),
        ),
    ):
        values = [schedule.value(step) for step in range(STEPS + 1)]
        axes.plot(values, color=color, linestyle=style, linewidth=1.8, label=label)
    axes.set(title="Schedules that depend on the step count", ylim=(0, 0.56))


def draw_adaptive(measure_axes, axes):
    schedule = schedules.Adaptive(0.0, 0.5, steps=250, target=TARGET)
    values = []
    measures = simulate(schedule, 0.3, lambda step: values.append(schedule.sigma.item()))
    smooth = torch.tensor(measures).unfold(0, 41, 1).mean(1)
    measure_axes.plot(measures, ".", color="0.7", markersize=2, label="one batch of 64")
    measure_axes.plot(range(20, STEPS - 20), smooth, color=BLUE, label="mean of 41 batches")
    measure_axes.axhline(TARGET, color=RED, linestyle="--", linewidth=1.2, label="target")
    measure_axes.set(
        title="The input of Adaptive (simulated)",
        ylabel="$r_t$: mean sign of the real logits",
        ylim=(-0.2, 1.05),
    )
    axes.plot(values, color=BLUE, label="Adaptive(0.0, 0.5, steps=250)")
    axes.set(title="The output of Adaptive (simulated)", ylim=(0, 0.56))


def draw_mixture(axes):
    schedule = schedules.DiffusionMixture(500, t_max=500)
    stream, x = pygan.NoiseStream(0), torch.empty(24, 1)
    largest, steps, drawn = [], [], []

    def look(step):
        largest.append(schedule.sigma.item())
        if step % 40 == 20:
            sigma = schedule.draw(x, stream)
            pygan.instance_noise(x, sigma, stream=stream)  # advances the stream
            steps.extend([step] * len(sigma))
            drawn.extend(sigma.tolist())

    simulate(schedule, 0.1, look)
    axes.plot(largest, color=BLUE, label="$\\sigma_T$, the largest in the set")
    label = "drawn for 24 samples; half are left clean"
    axes.plot(steps, drawn, ".", color=PINK, markersize=4, alpha=0.8, label=label)
    axes.set(title="DiffusionMixture(500, t_max=500) (simulated)", ylim=(-0.006, 0.2))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/schedules.png"))
    args = parser.parse_args()
    torch.manual_seed(0)
    figure = Figure(figsize=(11, 7.4), facecolor="white", layout="constrained")
    (fixed, measure), (mixture, adaptive) = panels = figure.subplots(2, 2, sharex=True)
    draw_fixed(fixed)
    draw_adaptive(measure, adaptive)
    draw_mixture(mixture)
    for axes in (fixed, mixture, adaptive):
        axes.set_ylabel("σ, in units of the data")
    for axes in (mixture, adaptive):
        axes.set_xlabel("calls of step()")
    for axes in panels.flat:
        axes.set_xlim(0, STEPS)
        axes.legend(frameon=False, fontsize=8, loc="best")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(args.out, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
