"""Maximum likelihood on a Gaussian mixture: the likelihood and KL(p_data || p_G) are one curve, upside down."""

import page
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

import pygan

SAMPLES, FRESH, SETS, STARTS, STEPS, MORE = 1000, 20_000, 10, 10, 1000, 3000
FREE = 8  # parameters: three means, three scales, two weights
STUCK = 0.05  # KL in nats; a good fit leaves FREE / (2 SAMPLES) = 0.004
RECORDED = [0, 2, 4, 7, 10, 15, 20, 30, 40, 60, 80, 120, 200, 400, 700, STEPS]
DX = 0.05
GRID = torch.arange(-9, 9, DX, dtype=torch.float64)


def mixture(log_weights, means, log_scales):
    return MixtureSameFamily(Categorical(logits=log_weights), Normal(means, log_scales.exp()))


TRUE = torch.tensor([[0.3, 0.4, 0.3], [-3, 0, 3], [0.5, 0.8, 0.4]], dtype=torch.float64)
# Little overlap, so that some fits get stuck.
DATA = MixtureSameFamily(Categorical(TRUE[0]), Normal(TRUE[1], TRUE[2]))
P = DATA.log_prob(GRID).exp()
ENTROPY = -(P * P.log()).sum().item() * DX


def divergences(parameters):
    """KL(p_data || p_G) of each fit, on the grid."""
    q = mixture(*parameters.flatten(1, -2)).log_prob(GRID[:, None]).exp()
    values = torch.stack([pygan.divergences.kl(P, each, dx=DX) for each in q.T])
    return values.view(parameters.shape[1:-1])


def train(parameters, x, steps=STEPS):
    """Adam on the likelihood of x, or, if that is None, on KL: the parameters (3, ..., 3) before each step and at the
    end. Fits do not influence each other, as Adam goes by elements."""
    parameters = parameters.clone().requires_grad_()
    optimizer = torch.optim.Adam([parameters], lr=0.03)
    for _ in range(steps + 1):
        yield parameters.detach().clone()
        if x is None:
            q = mixture(*parameters.flatten(1, -2)).log_prob(GRID[:, None]).exp()
            loss = pygan.divergences.kl(P[:, None].expand_as(q), q, dx=DX)
        else:
            loss = -mixture(*parameters).log_prob(x).mean(0).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def fit(by_likelihood):
    """From the same starts, at the RECORDED steps: parameters, KL, mean log-likelihood, that of fresh samples, and its
    standard error, of fits (SETS, STARTS). And KL after MORE steps, where it was STUCK."""
    torch.manual_seed(0)
    x, fresh = DATA.sample((SAMPLES, SETS, 1)), DATA.sample((FRESH, SETS, 1))
    # Means at samples of the set (independent, so the first will do), the scale of all of it, equal weights.
    start = torch.zeros(3, SETS, STARTS, 3, dtype=torch.float64)
    start[1] = x[: 3 * STARTS, :, 0].T.reshape(SETS, STARTS, 3)
    start[2] = x.std(0).log()[..., None]
    rows = []
    for step, parameters in enumerate(train(start, x if by_likelihood else None)):
        if step in RECORDED:
            own, new = (mixture(*parameters).log_prob(each) for each in (x, fresh))
            logs = own.mean(0), new.mean(0), new.std(0) / FRESH**0.5
            rows.append((parameters, divergences(parameters), *logs))
    stuck, left = rows[-1][1] > STUCK, torch.empty(0)
    if stuck.any():
        x = x.expand(-1, -1, STARTS)[:, stuck] if by_likelihood else None
        left = divergences(list(train(parameters[:, stuck], x, MORE))[-1])
    return [torch.stack(column) for column in zip(*rows)], left


def main():
    it = page.Page(
        "Maximum likelihood is a KL divergence",
        "The mean log-likelihood of samples and KL(p_data ‖ p_G) add up to minus the entropy of the data, for any "
        "parameters of p_G: maximizing one minimizes the other, up to sampling error.",
        source="Bishop 2006, section 1.6.1; Akaike 1974; local optima: Jin et al. 2016",
    )
    ((parameters, kl, likelihood, fresh, error), left), by_kl = it.over(fit, [True, False])
    off = (fresh + kl + ENTROPY).abs()
    it.check(
        f"mean log-likelihood + KL = {-ENTROPY:.3f} nats within four standard errors, {len(RECORDED)} steps × 100 fits",
        f"off by {off.max():.4f} or less, {(off / error).max():.1f} errors (of {error.mean():.4f}; {FRESH} samples)",
        (off < 4 * error).all(),
    )
    chosen = torch.arange(SETS), likelihood[-1].argmax(1)
    moves = [(x.amax(0) - x.amin(0))[chosen] for x in (fresh + kl, kl)]
    it.check(
        "over the steps this sum moves by less than a twentieth of what KL does, in each set's likeliest fit",
        f"the sum by {page.spread(moves[0], 4)}, KL by {page.spread(moves[1])}",
        (moves[0] < moves[1] / 20).all(),
    )
    more = kl[-1][chosen] - kl[-1].min(1).values
    it.check(
        f"of {STARTS} fits the likeliest is that of the least KL, within 0.001 nats, in each of {SETS} sets of samples",
        f"more by at most {more.max():.1e}",
        (more < 0.001).all(),
    )
    scaled = 2 * SAMPLES * kl[-1][chosen]
    its_error = scaled.std() / SETS**0.5
    it.check(
        f"the likeliest has KL = {FREE} / {2 * SAMPLES}, parameters over twice the samples, within 3 standard errors",
        f"{scaled.mean():.2f} ± {its_error:.2f} over {2 * SAMPLES}, {SETS} sets",
        (scaled.mean() - FREE).abs() < 3 * its_error,
    )
    stuck, other = kl[-1] > STUCK, by_kl[0][1][-1] > STUCK
    it.check(
        f"every start ends in the global optimum (KL < {STUCK})",
        f"{stuck.sum()} of {stuck.numel()} do not in {STEPS} steps, {(left > STUCK).sum()} not in {MORE} more; by "
        f"gradient on KL {other.sum()}, {(stuck & other).sum()} of them the same, and {(by_kl[1] > STUCK).sum()}",
        not stuck.any(),
        expected=False,
    )
    draw(it, parameters, likelihood, -ENTROPY - kl, stuck)
    it.write(
        not_shown=[
            "That fits that are still stuck are at local maxima: they may be on long plateaus.",
            "How often fits get stuck in general: with Adam and other data and starts of the same kind, 20 of 100 did.",
            "Collapse onto one sample, where the likelihood is unbounded (Bishop 2006, section 9.2.1).",
            "Anything about a G without a density: neither curve can be computed for it.",
        ],
    )


def draw(it, parameters, likelihood, mirrored, stuck):
    figure, (left, right) = page.figure(width=9, height=3.7, columns=2)
    left.fill_between(GRID, P, color="0.85", label="data")
    good, bad = (~stuck).nonzero()[0], (mirrored[-1] == mirrored[-1].min()).nonzero()[0]
    for step, (s, k), color, style, name in (
        (0, good, page.SKY, ":", "step 0"),
        (20, good, page.ORANGE, "--", "step 20"),
        (STEPS, good, page.BLUE, "-", f"step {STEPS}"),
        (STEPS, bad, page.RED, "-.", f"step {STEPS}, worst"),
    ):
        q = mixture(*parameters[RECORDED.index(step), :, s, k]).log_prob(GRID).exp()
        left.plot(GRID, q, style, color=color, label=name)
    left.set(xlabel="x", ylabel="density", xlim=(-6, 6))
    for (s, k), color, name in ((good, page.BLUE, ""), (bad, page.RED, ", worst")):
        right.plot(RECORDED, likelihood[:, s, k], color=color, label=f"log-likelihood{name}")
        right.plot(RECORDED, mirrored[:, s, k], "x", color=color, label=f"−entropy − KL{name}")
    right.set(xscale="symlog", xlabel="step", ylabel="nats a sample")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8)
    it.show(figure, "Left: data and fits. Right: mean log-likelihood and KL of two fits.")


if __name__ == "__main__":
    main()
