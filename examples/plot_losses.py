"""Plots each loss and its derivative as functions of the logit: docs/losses/NAME.png.

    python examples/plot_losses.py --out docs/losses

The values are computed by pygan.fused_losses. For losses that compare real with generated samples, the logits of the
other kind are 0.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure

from pygan import fused_losses

# Okabe and Ito's colors, which color-blind readers can distinguish.
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"


def terms(loss, x):
    """(label, line style, terms of the logits x) for both sides of the discriminator's loss and for the generator's."""
    zeros, compares = torch.zeros_like(x), fused_losses.compares(loss)

    def discriminator(real, fake):
        both = fused_losses.discriminator_loss(real, fake, loss=loss, reduction="none")
        return (both, both) if loss in ("relativistic", "relativistic_hinge") else both

    def generator(fake):
        real = {"real_logits": zeros} if compares else {}
        result = fused_losses.generator_loss(fake, loss=loss, reduction="none", **real)
        return result[0] if isinstance(result, tuple) else result

    return [
        ("D, of a real sample", {"color": BLUE, "lw": 5, "alpha": 0.4}, discriminator(x, zeros)[0]),
        ("D, of a generated one", {"color": ORANGE, "ls": "--"}, discriminator(zeros, x)[1]),
        ("G, of a generated one", {"color": GREEN}, generator(x)),
    ]


def draw(loss):
    x = torch.linspace(-5, 5, 501, requires_grad=True)
    figure = Figure(figsize=(7.6, 3.0), facecolor="white", layout="constrained")
    values, slopes = panels = figure.subplots(1, 2)
    for label, line, term in terms(loss, x):
        (slope,) = torch.autograd.grad(term.sum(), x, retain_graph=True)
        for axes, y in ((values, term), (slopes, slope)):
            axes.plot(x.detach(), y.detach(), label=label, **line)
    values.set(title="term", ylim=(-3.2, 5.2))
    slopes.set(title="derivative by the logit", ylim=(-2.2, 2.2))
    figure.legend(
        *values.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False
    )
    for axes in panels:
        axes.set_xlabel("logit" + (", the other kind's being 0" * fused_losses.compares(loss)))
        axes.set_xlim(-5, 5)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/losses"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for loss in fused_losses.LOSSES:
        draw(loss).savefig(args.out / f"{loss}.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
