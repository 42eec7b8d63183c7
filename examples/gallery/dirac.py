"""The Dirac-GAN: it orbits for ever, and noise and R1 damp it by the same formula."""

import cmath
import math

import page
import torch
from torch import nn

import pygan
from pygan.penalties import R1

RATE, SAMPLES, TIME, SEEDS = 0.03, 16384, 8.0, 10
GAMMAS = [0.0, 0.125, 0.5, 0.8, 1.25]


class Point(nn.Module):
    """The generator: every sample is theta. The data are at 0, and D(x) = psi x."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([[theta]]))

    def forward(self, z):
        return self.theta.expand(len(z), 1)


def orbit(kind, gamma, seed, radius=0.2, time=TIME):
    """(theta, psi) at every iteration; by noise of variance 2 gamma, or by R1."""
    G, D = Point(radius), nn.Linear(1, 1, bias=False)
    nn.init.zeros_(D.weight)
    trainer = pygan.GANTrainer(
        G,
        D,
        *(torch.optim.SGD(net.parameters(), lr=RATE) for net in (G, D)),
        latent=1,
        loss="minimax",
        noise=math.sqrt(2 * gamma) if kind == "noise" and gamma else None,
        penalties=[R1(gamma)] if kind == "R1" and gamma else [],
        seed=seed,
    )
    real = torch.zeros(SAMPLES if kind == "noise" else 2, 1)
    points = [(G.theta.item(), D.weight.item())]
    for _ in range(round(time / RATE)):
        trainer.step(real)
        points.append((G.theta.item(), D.weight.item()))
    return torch.tensor(points, dtype=torch.float64)


def eigenvalue(kind, gamma, seed):
    """Of the linear dynamics that fit the orbit best, in continuous time: x' = A x; that with the larger real part."""
    x = orbit(kind, gamma, seed)
    step = torch.linalg.lstsq(x[:-1], x[1:]).solution
    values = [cmath.log(complex(v)) / RATE for v in torch.linalg.eigvals(step)]
    return max(values, key=lambda v: (round(v.real, 6), v.imag))


def formula(gamma):
    return -gamma / 2 + cmath.sqrt(gamma**2 / 4 - 0.25)


def main():
    it = page.Page(
        "Dirac-GAN: noise and R1 are the same damping",
        "One data point at 0, one generated at θ, D(x) = ψx. Without regularization, (θ, ψ) orbits the equilibrium "
        "and never converges. Instance noise of standard deviation σ and R1 of weight γ = σ²/2 damp it equally, with "
        "eigenvalues −γ/2 ± √(γ²/4 − ¼).",
        source="Mescheder et al. 2018, sections 2 and 3; Roth et al. 2017",
    )
    runs = [("noise", g, s) for g in GAMMAS for s in range(SEEDS)] + [("R1", g, 0) for g in GAMMAS]
    found = {}
    for (kind, gamma, _), value in zip(
        runs, it.over(eigenvalue, *zip(*runs, strict=True)), strict=True
    ):
        found.setdefault((kind, gamma), []).append(value)
    free = orbit("none", 0.0, 0, time=60.0)
    radii = free.norm(dim=1)
    it.check(
        "without either, the orbit's radius is unchanged after 4.8 turns, within 2 %",
        f"{(radii[-1] / radii[0]).item():.4f} of it",
        abs(radii[-1] / radii[0] - 1) < 0.02,
    )
    for kind, gamma in found:
        values, want = found[kind, gamma], formula(gamma)
        mean = sum(values) / len(values)
        error = (sum(abs(v - mean) ** 2 for v in values) / len(values) ** 2) ** 0.5
        it.check(
            f"{kind}, γ = {gamma:g}{f' (σ = {math.sqrt(2 * gamma):.2f})' if kind == 'noise' else ''}: "
            f"{want:.3f} within .01 and three standard errors",
            f"{mean:.3f}" + (f" ± {error:.3f}, {len(values)} runs" if len(values) > 1 else ""),
            abs(mean - want) < 0.01 + 3 * error,
        )
    draw(it, found, free)


def draw(it, found, free):
    figure, (left, right) = page.figure(width=9, height=3.9, columns=2)
    left.plot(*free.T, color=page.GRAY, lw=1, label="neither")
    for kind, color, style in (("noise", page.BLUE, "-"), ("R1", page.ORANGE, "--")):
        left.plot(
            *orbit(kind, 0.5, 0, time=30.0).T,
            color=color,
            ls=style,
            lw=1.8,
            label=f"{kind}, γ = 0.5",
        )
    left.set(
        xlabel="θ, where the generator is", ylabel="ψ, the discriminator's slope", aspect="equal"
    )
    # Above the axes: within them the orbit and the spiral leave no room.
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize=8)
    grid = torch.linspace(0, 1.4, 300).tolist()
    for part, color in (("real", page.GREEN), ("imag", page.RED)):
        right.plot(
            grid, [getattr(formula(g), part) for g in grid], color=color, label=f"{part}, formula"
        )
        for kind, marker in (("noise", "o"), ("R1", "x")):
            its = ((g, v) for (k, g), values in found.items() if k == kind for v in values)
            points = [(g, getattr(v, part)) for g, v in its]
            right.plot(
                *zip(*points, strict=True),
                marker,
                color=color,
                ms=6,
                mfc="none",
                label=f"{part}, {kind}",
            )
    right.set(
        xlabel="γ of R1, or σ²/2 of the noise",
        ylabel="eigenvalue, per unit of learning rate × steps",
    )
    right.legend(frameon=False, fontsize=8)
    it.show(
        figure,
        "Left: the orbits. Right: measured eigenvalues (10 seeds of noise, R1 has no randomness) on the formula.",
    )
    it.write(
        text=f"Plain gradient steps of {RATE}, minimax loss, {SAMPLES} samples of noise a step; the eigenvalues are "
        "those of the linear map with the best fit to an orbit's steps.",
        not_shown=[
            "The behavior far from the equilibrium, where the dynamics are nonlinear.",
            "Adam, or large steps, which add dynamics of their own.",
            "Real networks, where noise and R1 agree only to first order in σ² (`pygan.schedules.r1_for_sigma`).",
        ],
    )


if __name__ == "__main__":
    main()
