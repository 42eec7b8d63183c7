"""The moving maximum: how large a step of the generator may be, and how many discriminator steps it takes for it."""

import math

import numpy as np
import page
import torch
from torch import nn
from torch.distributions import Normal

import pygan
from pygan.divergences import optimal_discriminator, value_function

SEEDS, STEPS, BATCH, WIDTH, CELL, ARRIVED = 10, 400, 64, 32, 0.05, 0.01
KS, RATES = [1, 2, 4, 8, 16], 2.0 ** torch.tensor([-6, -4, -2, -1, 0, 1, 2, 3, 4])
RUNS = len(RATES) * SEEDS
START = torch.tensor([[2.0], [1.0]])  # mean and standard deviation
X = torch.arange(-1000, 1001, dtype=torch.float64) * CELL
DATA = Normal(0.0, 1.0)


def generated(parts):
    """Of mean + std z, a row for each column; where the grid ends or is too coarse another one as far off."""
    mean, std = parts[..., None]
    return Normal(mean.clamp(-30, 30), std.abs().clamp(0.1, 10))


def values(parts, old):
    """V of each column at the D* of that column of `old`, integrated; the maximum of V if they are the same."""
    p, qs = DATA.log_prob(X).exp(), generated(parts).log_prob(X).exp()
    pairs = zip(optimal_discriminator(DATA, generated(old))(X), qs)
    return torch.stack([value_function(a, p, q, dx=CELL) for a, q in pairs])


def slope(parts):
    """The gradient of V by the generators' parameters, D* held."""
    moving = parts.clone().requires_grad_()
    return torch.autograd.grad(values(moving, parts).sum(), moving)[0]


class Generators(nn.Module):
    """Those of all runs side by side, (N, runs) to (N, runs) as the discriminators; each with its own step size."""

    def __init__(self):
        super().__init__()
        self.parts = nn.Parameter(START.repeat(1, RUNS))
        # The loss is the mean over the runs: each one's gradient has been divided by their number.
        self.parts.register_hook(lambda g: g * RUNS * RATES.repeat_interleave(SEEDS))

    def forward(self, z):
        return self.parts[0] + self.parts[1] * z


class Discriminators(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Parameter(torch.randn(2, RUNS, WIDTH))
        self.outer = nn.Parameter(torch.randn(RUNS, WIDTH) / math.sqrt(WIDTH))

    def forward(self, x):
        hidden = nn.functional.leaky_relu(x[..., None] * self.inner[0] + self.inner[1], 0.2)
        return (hidden * self.outer).sum(-1)


def final_jsd(path):
    """The mean over the last fifth of the steps, (step sizes, seeds)."""
    late = [math.log(2) + values(parts, parts) / 2 for parts in path[-STEPS // 5 :: 8]]
    return torch.stack(late).mean(0).view(len(RATES), -1).expand(-1, SEEDS)


def train(k):
    torch.manual_seed(k)
    G, D, path = Generators(), Discriminators(), []
    sgd = torch.optim.SGD(G.parameters(), lr=1.0)
    adam = torch.optim.Adam(D.parameters(), lr=0.01, betas=(0.5, 0.9))
    trainer = pygan.GANTrainer(G, D, sgd, adam, latent=RUNS, loss="minimax", d_steps=k, seed=k)
    for _ in range(STEPS):
        trainer.step([torch.randn(BATCH, RUNS) for _ in range(k)])
        path.append(G.parts.detach().double())
    return final_jsd(path)


def main():
    it = page.Page(
        "The moving maximum: how far the generator may go",
        "A step of G lowers V at the current D. After a large step, another D maximizes V, and the maximum of V, "
        "which should fall, may have risen. More steps of D per step of G allow larger steps.",
        source="Goodfellow et al. 2014, algorithm 1 and proposition 2",
    )
    stds, sizes = 2.0 ** torch.tensor([0, -1, -0.5, 0.5, 1]), 2.0 ** torch.linspace(-10, 8, 73)
    starts = torch.cartesian_prod(torch.tensor([2, 0.5, 1, 1.5, 2.5, 3]), stds).double().T
    after = [starts - size * slope(starts) for size in sizes.tolist()]
    held = torch.stack([values(x, starts) for x in after]) - values(starts, starts)
    most = torch.stack([values(x, x) for x in after]) - values(starts, starts)
    alike, worse = most[0] / held[0], (most > 0) & (held < 0)
    first = sizes[worse.double().argmax(0)]
    it.check(
        f"a step of {sizes[0]:.3f} lowers the maximum of V as it lowers V at the old D*, within 1 %; some larger one "
        "lowers V at the old D* and raises the maximum, and so the JSD; from all starts",
        f"{page.spread(alike, 4)}; {worse.any(0).sum()} of {len(alike)} starts, from {page.spread(first, 1)} on",
        (alike - 1).abs().max() < 0.01 and worse.any(0).all(),
    )
    exact = [START.double().repeat(1, len(RATES))]
    for _ in range(STEPS):
        exact.append(exact[-1] - RATES * slope(exact[-1]))
    final = torch.stack([*it.over(train, KS), final_jsd(exact)])
    allowed = RATES[(final[:, 1:] < ARRIVED).double().cumprod(1).sum(1).long()]
    names = [f"k = {k}: {page.spread(row, 2)}" for k, row in zip([*KS, "∞"], allowed)]
    mean, error = allowed.log2().mean(1), (allowed.log2().var(1) / SEEDS).sqrt()
    it.check(
        "k = 4 allows larger steps than k = 1, by three standard errors",
        "; ".join(names[:3]),
        mean[2] - mean[0] > 3 * torch.hypot(error[0], error[2]),
    )
    it.check(
        "each further doubling, and at last D* itself (k = ∞), allows larger ones still",
        "; ".join(names[3:]),
        (mean[2:].diff() > 0).all(),
        expected=False,
    )
    figure, (left, right) = page.figure(width=10, height=4, columns=2, width_ratios=[1, 1.6])
    left.plot(sizes, held[:, 0], "--", color=page.BLUE, label="V at the D* of before")
    left.plot(sizes, most[:, 0], color=page.RED, label="maximum of V")
    left.axhline(0, color="black", lw=0.8)
    left.set(xscale="log", xlim=(0.1, 100), ylim=(-1.5, 1), xlabel="step size of G")
    left.set_ylabel("change by one step, nats")
    left.legend(frameon=False, fontsize=9, loc="upper left")
    drawn = right.imshow(final.mean(2), cmap="cividis_r", vmin=0, vmax=math.log(2), aspect="auto")
    for (i, j), x in np.ndenumerate(final.mean(2).abs()):
        right.text(j, i, f"{x:.2f}", ha="center", va="center", color="w" if x > 0.35 else "k")
    right.set_xticks(range(len(RATES)), [f"{r:.2g}" for r in RATES.tolist()])
    right.set_yticks(range(len(KS) + 1), [*KS, "∞"])
    right.set(xlabel="step size of G", ylabel="k, steps of D for one of G")
    figure.colorbar(drawn, label="JSD in the end, nats")
    it.show(figure, f"Left: one step of G from N(2, 1). Right: the JSD after {STEPS} steps of G.")
    it.write(
        text="Data N(0, 1), G is m + s z, plain gradient steps. Left, and for k = ∞: D* itself, integrated. Otherwise: "
        f"Adam at .01, one hidden layer of {WIDTH}, {BATCH} samples a batch, cells are means of {SEEDS} runs (standard "
        f"errors to {final.std(2).max() / SEEDS**0.5:.2f}). A run allows the step sizes from 1/16 up to the largest "
        f"at which it ends below a JSD of {ARRIVED}.",
        not_shown=[
            "That k should be large: a generator step with k = 16 costs about eight times as much as with k = 1.",
            "Why D* allows no larger steps than k = 4: perhaps a lagging D damps the overshoot, but this is a guess.",
            "Adam for G, which bounds its steps; other rates of D; generators of more than two parameters.",
        ],
    )


if __name__ == "__main__":
    main()
