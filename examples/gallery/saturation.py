"""The generator's two losses: the one of the game is flat where training begins, the other is steepest there."""

import math
import statistics

import page
import torch
from torch import nn
from torch.distributions import Normal

import pygan
from pygan import divergences, fused_losses
from pygan.training.models import mlp

START, WARM, STEPS, EVERY, BATCH, SEEDS = 8.0, 300, 800, 10, 128, 10
RATES = {"SGD": 0.1, "Adam": 0.01}
TITLES = {
    "SGD": "SGD: minimax hardly moves",
    "Adam": "Adam: at this rate and β₁ the order is reversed, at others\n"
    "it is not: no reason to leave the non-saturating loss",
}
LOSSES = {"minimax": page.RED, "non_saturating": page.BLUE}
X = torch.linspace(-20, 20, 1601, dtype=torch.float64)
DATA = Normal(0.0, 1.0).log_prob(X).exp()


class Affine(nn.Module):
    """Normal samples, of a mean and a standard deviation that are learned."""

    def __init__(self):
        super().__init__()
        self.mean, self.std = (nn.Parameter(torch.tensor(x)) for x in (START, 1.0))

    def forward(self, z):
        return self.mean + self.std * z


def train(optimizer, loss, seed):
    """(JSD at every EVERY steps, D(G(z)) and the norm of G's gradient in its first step), from a discriminator that has
    had WARM steps to learn that everything generated is wrong."""
    torch.manual_seed(seed)
    G, D = Affine(), mlp((1,), latent=1, width=32)[1]
    kind = torch.optim.SGD if optimizer == "SGD" else torch.optim.Adam
    g_optimizer = kind(G.parameters(), lr=RATES[optimizer])
    d_optimizer = torch.optim.Adam(D.parameters(), lr=0.01, betas=(0.5, 0.9))
    trainer = pygan.GANTrainer(G, D, g_optimizer, d_optimizer, latent=1, loss=loss, seed=seed)
    for _ in range(WARM):
        trainer.discriminator_step(torch.randn(BATCH, 1))
    curve = []
    for step in range(STEPS + 1):
        if step % EVERY == 0:
            own = Normal(G.mean.item(), max(abs(G.std.item()), 0.05)).log_prob(X).exp()
            curve.append(divergences.jsd(DATA, own, dx=40 / 1600).item())
        stats = trainer.step(torch.randn(BATCH, 1))
        if step == 0:
            first = stats.d_fake_after.item(), math.hypot(G.mean.grad, G.std.grad)
    return curve, *first


def functions():
    """The two losses and their derivatives by the logit, as the kernels compute them."""
    a = torch.linspace(-8, 8, 1001, dtype=torch.float64)
    rows = {}
    for loss in LOSSES:
        both = fused_losses.generator_loss_and_grad(a, loss=loss, reduction="sum")
        rows[loss] = fused_losses.generator_loss(a, loss=loss, reduction="none"), both.grads[0]
    return a, rows


def main():
    it = page.Page(
        "Saturating against non-saturating",
        "E[log(1 − D(G(z)))], the generator's part of the game, has the gradient −σ(a) with respect to the logit a, "
        "which vanishes when D rejects the samples, as at the start of training. E[−log D(G(z))] has the same fixed "
        "point, and its gradient −σ(−a) is −1 in that case. From a bad start, the first therefore hardly moves, but "
        "the second does.",
        source="Goodfellow et al. 2014, section 3",
    )
    a, rows = functions()
    formulas = {"minimax": -torch.sigmoid(a), "non_saturating": -torch.sigmoid(-a)}
    for loss, formula in formulas.items():
        off = (rows[loss][1] - formula).abs().max().item()
        it.check(f"{loss}: the kernel's gradient is this", f"{off:.1e} off at most", off < 1e-14)
    runs = [(o, loss, seed) for o in RATES for loss in LOSSES for seed in range(SEEDS)]
    found = {}
    for (o, loss, _), result in zip(runs, it.over(train, *zip(*runs, strict=True)), strict=True):
        found.setdefault((o, loss), []).append(result)
    norms = {loss: [norm for _, _, norm in found["SGD", loss]] for loss in LOSSES}
    it.check(
        "at the start, minimax's gradient is at most a hundredth of the other, in every run",
        f"{page.spread(norms['minimax'], 5)} against {page.spread(norms['non_saturating'], 2)}; D(G(z)) is "
        f"{page.spread([d for _, d, _ in found['SGD', 'minimax']], 5)}",
        all(m < n / 100 for m, n in zip(*norms.values(), strict=True)),
    )
    for optimizer in RATES:
        times = {loss: [arrival(curve) for curve, *_ in found[optimizer, loss]] for loss in LOSSES}
        told = "; ".join(f"{loss}: {summary(each)}" for loss, each in times.items())
        slow, fast = (statistics.median(each) for each in times.values())
        it.check(
            f"{optimizer}: minimax takes twice as many steps to a JSD below .05, or does not reach it ({STEPS} steps)",
            told,
            slow >= 2 * fast and fast <= STEPS,
            expected=optimizer == "SGD",  # Adam turns the order round
        )
    draw(it, a, rows, found)


def arrival(curve):
    """The step from which on the JSD was below .05 once; infinite if it never was."""
    return next((EVERY * i for i, jsd in enumerate(curve) if jsd < 0.05), math.inf)


def summary(times):
    there = [t for t in times if t < math.inf]
    return f"{len(there)} of {len(times)} runs" + (
        f", after {page.spread(there, 0)} steps" if there else ""
    )


def draw(it, a, rows, found):
    figure, axes = page.figure(width=9, height=6.4, columns=2, rows=2)
    for (loss, color), style in zip(LOSSES.items(), ("--", "-"), strict=True):
        for axis, values in zip(axes[0], rows[loss], strict=True):
            axis.plot(a, values, color=color, ls=style, label=loss.replace("_", "-"))
        for axis, optimizer in zip(axes[1], RATES, strict=True):
            curves = torch.tensor([curve for curve, *_ in found[optimizer, loss]])
            steps = EVERY * torch.arange(curves.shape[1])
            axis.fill_between(steps, curves.amin(0), curves.amax(0), color=color, alpha=0.2, lw=0)
            axis.plot(steps, curves.median(0).values, color=color, ls=style)
            axis.set(
                xlabel=f"steps, {optimizer} at {RATES[optimizer]}",
                ylabel="JSD, nats",
                ylim=(0, 0.75),
            )
            axis.set_title(TITLES[optimizer], fontsize=9)
    axes[0, 0].set(xlabel="logit a of a generated sample", ylabel="loss, nats")
    axes[0, 1].set(xlabel="logit a of a generated sample", ylabel="gradient by a", ylim=(-1.1, 0.1))
    axes[0, 0].legend(frameon=False)
    it.show(
        figure,
        "Top: the losses and their gradients. Bottom: the JSD from a bad start, median and range of 10 runs.",
    )
    it.write(
        text=f"Data N(0, 1), G's samples N({START:g}, 1) at first, D (two hidden layers of 32) {WARM} steps ahead, "
        f"batches of {BATCH}. Both losses get the same seeds. Adam (β₁ = .9) divides a gradient by its own magnitude: "
        "minimax's small gradient costs nothing there, and the other's, large at first, is then divided by its "
        "earlier magnitude.",
        not_shown=[
            "Other starts and rates: one of each. If D is not ahead, the difference is smaller.",
            "That minimax cannot work, or is better with Adam: in trials, the order depended on the rate and β₁.",
            "Generators that are not one-dimensional; the JSD is exact here because the density is known.",
        ],
    )


if __name__ == "__main__":
    main()
