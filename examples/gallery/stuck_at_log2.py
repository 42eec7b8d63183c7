"""JSD stuck at log 2: exactly, on memorised samples, and in a game whose supports are disjoint."""

import math

import page
import torch
from animation import POINTS, RUNS, mean, mlps, side_by_side

import pygan
from pygan.divergences import jsd, lower_bounds
from pygan.schedules import Constant, Linear, r1_for_sigma

STEPS, EVERY = 1500, 50
JUDGES = {"128 + 128 units": (0.0, (128, 128)), "4 + 4 units": (0.0, (4, 4)), "linear": (0.0, ())}
JUDGES |= {f"128 + 128 units, σ = {s:g}": (s, (128, 128)) for s in (0.5, 1.0, 2.0, 4.0)}
GAMES = {
    "no noise": {},
    "σ = 0.05": {"noise": Constant(0.05)},
    "σ = 0.5": {"noise": Constant(0.5)},
    "σ = 0.5 → 0": {"noise": Linear(0.5, 0.0, STEPS * 4 // 5)},
    "R1, γ = ⅛": {"gamma": r1_for_sigma(0.5)},
    "D of 8 + 8 units": {"units": 8},
    "non-saturating": {"loss": "non_saturating"},
    "G by Adam": {"sgd": None},
    "D not ahead": {"ahead": 0},
}


def exact(sigma):
    """JSD of N(0, σ²) and N(1, σ²), and its derivative by the distance."""
    x = torch.linspace(-9 * sigma, 1 + 9 * sigma, 4001, dtype=torch.float64)
    mean = torch.ones((), dtype=torch.float64, requires_grad=True)
    p, q = (torch.distributions.Normal(m, sigma).log_prob(x).exp() for m in (0 * mean, mean))
    value = jsd(p, q, dx=(1 + 18 * sigma) / 4000)
    return value.item(), torch.autograd.grad(value, mean)[0].item()


def memorise(sigma, hidden):
    """The bound of a D that was shown 128 samples of each, in 32 dimensions: on these, and on fresh ones, (2, RUNS)."""
    torch.manual_seed(0)
    D = mlps(torch.nn.LeakyReLU(0.2), 32, *hidden, 1)
    optimizer = torch.optim.Adam(D.parameters(), 1e-3)
    shift = torch.arange(2).view(2, 1, 1, 1) * torch.eye(32)[0]
    seen, fresh = (torch.randn(2, RUNS, n, 32) + shift for n in (128, 4000))
    for _ in range(300):
        optimizer.zero_grad()
        logits = map(D, pygan.instance_noise(seen, sigma))
        pygan.fused_losses.discriminator_loss(*logits).backward()
        optimizer.step()
    noisy = (pygan.instance_noise(pair, sigma) for pair in (seen, fresh))
    bounds = [[lower_bounds(*run).jsd.value.item() for run in zip(*map(D, x))] for x in noisy]
    return torch.tensor(bounds)


def play(options):
    """Distance of the samples from the circle of the data, and share of it covered: (2, time, RUNS); D's last bound."""
    # Steps of D, which bring it near its best, of which the theory speaks.
    ahead = options.pop("ahead", 500)
    trainer, found = side_by_side(**{"loss": "minimax", "sgd": 0.05} | options), []
    for step in range(-ahead, STEPS + 1):
        angle = 2 * math.pi * torch.rand(RUNS, POINTS)
        real = torch.stack([3 + angle.cos(), angle.sin()], dim=-1)
        if step < 0:
            trainer.discriminator_step(real)
            continue
        if step % EVERY == 0:
            x = trainer.sample(RUNS, latent=torch.randn(RUNS, 1000, 2))
            distance = ((x - torch.tensor([3.0, 0.0])).norm(dim=2) - 1).abs().mean(1)
            covered = (torch.cdist(real, x).amin(2) < 0.1).float().mean(1)
            found.append(torch.stack([distance, covered]))
        bound = trainer.step(real).jsd_bound.item()
        if trainer.noise:
            trainer.noise.step()
    return torch.stack(found, 1), bound


def main():
    it = page.Page(
        "JSD stuck at log 2",
        "If two distributions do not overlap, their JSD is log 2 and its gradient vanishes; with few samples, a "
        "strong D finds log 2 even if they overlap. Annealed noise on D's inputs, or a weaker D, fixes this.",
        source="Arjovsky and Bottou 2017, theorems 2.1 and 2.4, section 3; Sønderby et al. 2017",
    )
    for sigma, oracle in ((0.05, 0.693), (0.25, 0.633), (0.5, 0.337), (2.0, 0.030)):
        value, slope = exact(sigma)
        claim = f"the JSD of N(0, σ²) and N(1, σ²) is {oracle:.3f} at σ = {sigma:g}"
        it.check(claim, f"{value:.4f}, derivative {slope:.2g}", abs(value - oracle) < 6e-4)
    curves = torch.tensor([(s, *exact(s)) for s in torch.logspace(-1.3, 0.5, 60).tolist()]).T
    best, ends = curves[2].argmax(), curves[2, [0, -1]]
    claim = "its derivative by the distance is largest in between, at least five times that at .05 and at 3.2"
    numbers = f"{curves[2, best]:.2f} at σ = {curves[0, best]:.2f}; {ends[0]:.0e}, {ends[1]:.2f}"
    it.check(claim, numbers, curves[2, best] > 5 * ends.max())
    truth = [exact((1 + sigma**2) ** 0.5)[0] for sigma, _ in JUDGES.values()]
    for name, (seen, fresh), true in zip(JUDGES, it.over(memorise, *zip(*JUDGES.values())), truth):
        claim = f"at most the JSD {true:.3f}, to 3 standard errors"
        holds = seen.mean() < true + 3 * seen.std() / RUNS**0.5
        if name == "128 + 128 units":
            claim = f"log 2 within .001, the JSD {true:.3f}"
            holds = (seen > math.log(2) - 1e-3).all()
        numbers = f"{mean(seen)}, on fresh samples {mean(fresh)}"
        claim = f"D, {name}: the bound on its training samples is {claim}"
        it.check(claim, numbers, holds, expected=name in ("128 + 128 units", "linear"))
    games = dict(zip(GAMES, it.over(play, GAMES.values())))
    for name, ((distance, covered), bound) in games.items():
        reach = (distance[-1] < 0.5).sum()
        claim, holds = "6 runs or more reach the circle (p = .01 against none, Fisher)", reach >= 6
        if name in ("no noise", "σ = 0.05"):
            claim = "no run gets closer by a tenth, and D's bound is log 2 within .001"
            holds = abs(bound - math.log(2)) < 1e-3 and (distance[-1] > 0.9 * distance[0]).all()
        numbers = f"{reach} of {RUNS}; distance {page.spread(distance[-1], 2)}, share covered {mean(covered[-1])}"
        it.check(f"{name}: {claim}", numbers, holds, expected=name != "D of 8 + 8 units")
    constant, annealed = (games[name][0][0, -1] for name in ("σ = 0.5", "σ = 0.5 → 0"))
    gain = (constant - annealed)[(constant < 0.5) & (annealed < 0.5)]
    claim = "annealed noise ends closer than constant, in runs that reach the circle with both, by 3 standard errors"
    it.check(claim, f"by {mean(gain)}", gain.mean() > 3 * gain.std() / len(gain) ** 0.5)
    draw(it, curves, games)


def draw(it, curves, games):
    figure, (left, right) = page.figure(width=9, height=3.9, columns=2)
    left.semilogx(*curves[[0, 1]], color=page.BLUE, label="JSD, at most log 2 = 0.693")
    left.semilogx(*curves[[0, 2]], color=page.RED, label="derivative by the distance")
    left.set(xlabel="σ of N(0, σ²) and N(1, σ²)", ylabel="nats, nats per unit", ylim=(0, 1))
    colors = (page.GRAY, None, page.BLUE, page.GREEN, page.ORANGE, None, page.RED)
    for (name, ((distance, _), _)), color in zip(games.items(), colors):
        if color:
            steps = range(0, STEPS + 1, EVERY)
            low, median, high = distance.quantile(torch.tensor([0.25, 0.5, 0.75]), 1)
            right.semilogy(steps, median, color=color, label=name)
            right.fill_between(steps, low, high, color=color, alpha=0.2, lw=0)
    right.set(xlabel="step", ylabel="distance of G's samples from the data", ylim=(0.05, 30))
    left.legend(frameon=False)
    right.legend(frameon=False, ncols=2)
    it.show(figure, "Left: exact values. Right: the game, with median and quartiles of 10 runs.")
    it.write(
        text="Training samples: 128 each of N(0, I) and N(e₁, I) in 32 dimensions, for 300 steps of Adam, with fresh "
        "noise at each. The game: data on a circle of radius 1, 3 from G's first samples; 500 steps of D alone, "
        "then "
        f"{STEPS} of both; minimax loss; plain gradient steps of .05 for G, Adam for D. Rows name the differences.",
        not_shown=[
            "That GANs get stuck in practice: the non-saturating loss, Adam for G, or a D that is not ahead avoids "
            "it here.",
            "That noise is safe: with either kind, one run of ten diverged, and with a narrow D all did.",
            "That noise helps D generalize: with noise, no D had much of a bound on fresh samples, the linear D a "
            "little.",
            "Other step sizes, σ, γ and distances: one value of each was run.",
        ],
    )


if __name__ == "__main__":
    main()
