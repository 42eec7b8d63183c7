"""The two-player game: D against the optimal D*, V on its way to -2 log 2, and the bound on the JSD at every step."""

import copy
import math

import numpy as np
import page
import torch
from torch import nn

import pygan
from pygan.datasets import Mixture
from pygan.divergences import jsd, lower_bounds, optimal_discriminator, value_function
from pygan.training.models import mlp

SEEDS, STEPS, K, BATCH, RATE = 10, 500, 2, 512, 1e-2
MOMENTS = [0, 100, STEPS - 1]
DATA = Mixture(torch.tensor([[-1.0], [1.0]]), 0.5)
FLOOR, CELL = -2 * math.log(2), 0.02
EDGES = torch.arange(-350, 351, dtype=torch.float64) * CELL
X = (EDGES[1:] + EDGES[:-1]) / 2
P_DATA = torch.special.ndtr((EDGES[:, None] - DATA.centers.T) / DATA.std).mean(1).diff() / CELL


class Monotone(nn.Module):
    """Increasing in z, so that the density of its samples is known."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(2.0))
        self.logs = nn.Parameter(torch.tensor([-1.0, -1.0, 0.0]))

    def forward(self, z):
        scale, height, slope = self.logs.exp()
        return self.shift + scale * z + height * torch.tanh(slope * z)

    @torch.no_grad()
    def density(self):
        """Its mean over each cell: the normal mass between the latents of the cell's edges."""
        z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
        return torch.special.ndtr(torch.from_numpy(np.interp(EDGES, self(z), z))).diff() / CELL


@torch.no_grad()
def logits(D):
    return D(X.float()[:, None]).flatten().double()


def distance(a, q):
    """Mean |D - D*| over what D is shown, half data and half generated."""
    apart = torch.sigmoid(a) - torch.sigmoid(optimal_discriminator(P_DATA, q))
    return ((P_DATA + q) / 2 * apart.abs()).sum().item() * CELL


def held_still(trainer):
    """A copy of D after 300 more steps, annealed to nothing, without any of G."""
    trainer = copy.deepcopy(trainer)
    for step in range(300):
        trainer.d_optimizer.param_groups[0]["lr"] = RATE * (1 - step / 300)
        trainer.discriminator_step(DATA.sample(BATCH))
    return trainer.discriminator


def play(seed):
    """(JSD, V, a batch's bound on the JSD, its standard error) at every step; densities and logits at MOMENTS."""
    torch.manual_seed(seed)
    G, D = Monotone(), mlp((1,), latent=1, width=64)[1]
    adams = [torch.optim.Adam(net.parameters(), RATE, betas=(0.5, 0.9)) for net in (G, D)]
    trainer = pygan.GANTrainer(G, D, *adams, latent=1, d_steps=K, seed=seed)
    curve, moments = [], []
    for step in range(STEPS):
        a, q = logits(D), G.density()
        if step in MOMENTS:
            moments.append((q, a, logits(held_still(trainer))))
        with torch.no_grad():  # on samples that D is not trained on: others prove nothing
            bound = lower_bounds(D(DATA.sample(BATCH)), D(trainer.sample(BATCH))).jsd
        exact = jsd(P_DATA, q, dx=CELL), value_function(a, P_DATA, q, dx=CELL)
        curve.append([x.item() for x in (*exact, *bound)])
        trainer.step([DATA.sample(BATCH) for _ in range(K)])
    return torch.tensor(curve, dtype=torch.float64), moments


def main():
    it = page.Page(
        "The two-player game: what the discriminator knows",
        "For a fixed G, the best D is D* = p_data / (p_data + p_G), and V(D*, G) = −2 log 2 + 2 JSD. As G learns, V "
        "approaches −2 log 2; for any D, log 2 + V/2 = log 2 − L_D/2 is a lower bound on the JSD.",
        source="Goodfellow et al. 2014, proposition 1 and theorem 1",
    )
    played = it.over(play, range(SEEDS))
    j, v, bound, error = torch.stack([curve for curve, _ in played]).unbind(2)
    for i, step in enumerate(MOMENTS):
        before, after = ([distance(m[i][n], m[i][0]) for _, m in played] for n in (1, 2))
        it.check(
            f"step {step}: 300 more steps with G fixed bring D closer to D*, mean distance < .02, in every run",
            f"from {page.spread(before)} to {page.spread(after)}",
            max(after) < 0.02 and all(b < a for a, b in zip(before, after)),
        )
    end, slack = v[:, -100:].mean(1), (j - math.log(2) - v / 2).min().item()
    it.check(
        f"over the last 100 steps V(D, G) is within .01 of −2 log 2 = {FLOOR:.4f} in every run",
        f"{page.spread(end, 4)}; the JSD is {page.spread(j[:, -1], 4)}, from {page.spread(j[:, 0])}",
        (end - FLOOR).abs().max() < 0.01,
    )
    it.check(
        "log 2 + V/2, in expectation (integrated), is below the JSD at every step",
        f"by {slack:.1e} or more, {v.numel()} steps in {SEEDS} runs",
        slack > 0,
    )
    chance, often = 0.00135, (bound > j + 3 * error).double().mean().item()
    it.check(
        "log 2 − L_D/2 of a batch is three standard errors above the JSD no more often than by chance, .135 %",
        f"in {often:.3%} of the steps; above it at all in {(bound > j).double().mean():.1%}; a standard error is "
        f"{page.spread(error.flatten())}",
        often < chance + 3 * math.sqrt(chance / v.numel()),
    )
    figure, axes = page.figure(width=9, height=6.4, columns=2, rows=2)
    for each, step, (q, a, _) in zip(axes.flat, MOMENTS, played[0][1]):
        seen = P_DATA + q > 1e-3  # elsewhere there are no samples, and D is free
        for density, color, name in ((P_DATA, "0.65", "data"), (q, page.ORANGE, "generated")):
            each.fill_between(X, density, color=color, alpha=0.6, lw=0, label=f"{name}, density")
        optimal = torch.sigmoid(optimal_discriminator(P_DATA, q))
        each.plot(X[seen], torch.sigmoid(a)[seen], color=page.BLUE, label="D(x)")
        each.plot(X[seen], optimal[seen], "k--", label="D*(x)")
        each.set(title=f"generator step {step}", xlabel="x", ylabel="density, or probability")
        each.set(xlim=(-4, 4), ylim=(0, 1.4))
    axes[0, 0].legend(frameon=False, fontsize=9, ncols=2)
    last, best = axes[1, 1], FLOOR + 2 * j
    for values, name, color in ((best, "V(D*, G)", page.RED), (v, "V(D, G)", page.BLUE)):
        last.plot(values.median(0).values, color=color, label=name)
        last.fill_between(range(STEPS), values.amin(0), values.amax(0), color=color, alpha=0.25)
    last.axhline(FLOOR, color="black", ls=":", label="−2 log 2")
    last.set(title="the value function", xlabel="generator steps", ylabel="V, nats")
    last.legend(frameon=False, fontsize=9)
    it.show(figure, "D follows D*, finally to ½; V, bottom right, falls to −2 log 2.")
    it.write(
        text="The generator is an increasing function of one normal number, so its density, D* and the JSD are known "
        f"exactly. Non-saturating loss, Adam at {RATE}, k = {K}, {BATCH} samples a batch, D with two hidden layers of "
        "64. The densities are those of one run; the curves are the median, minimum and maximum of all runs.",
        not_shown=[
            "That V near −2 log 2 means a good generator: it is also near it at step 0, because D knows nothing yet.",
            "That a batch's bound is below the JSD: if D is good, sampling error often puts it above.",
            "A D evaluated on samples it was trained on (here every batch is new), or more than one dimension.",
            "That training must converge: with modes farther apart (±1.2), this generator can stay on one of the two.",
        ],
    )


if __name__ == "__main__":
    main()
