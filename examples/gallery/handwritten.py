"""The theory's claims on handwritten digits: the two losses at the start, log 2 on few samples, and mode collapse."""

import math
import statistics

import page
import torch
from torch.nn import functional as F

import pygan
from pygan import fused_losses, metrics
from pygan.divergences import lower_bounds
from pygan.penalties import R1
from pygan.training.models import dcgan

SEEDS, BATCH, LATENT = 3, 64, 64
AHEAD, SIGMAS = 200, (0.0, 0.5, 1.0, 2.0)
STEPS, FEW = 1000, 100
GAMES = {
    "equal rates": {},
    "with noise": {"noise": 0.5},
    "with R1": {"penalties": [R1(1.0)]},
    "G ten times as fast": {"g_lr": 5e-3},
}


def trainer_of(seed, *, g_lr=5e-4, **options):
    torch.manual_seed(seed)
    G, D = dcgan((1, 28, 28), latent=LATENT, width=16)
    optimizers = [
        torch.optim.Adam(net.parameters(), lr=lr, betas=(0.5, 0.99))
        for net, lr in ((G, g_lr), (D, 5e-4))
    ]
    return pygan.GANTrainer(G, D, *optimizers, latent=LATENT, seed=seed, **options)


def batches(images, seed):
    draw = torch.Generator().manual_seed(seed)
    while True:
        yield images[torch.randint(len(images), (BATCH,), generator=draw)]


def at_the_start(seed):
    """[(mean D(G(z)), gradient norm of minimax over that of the non-saturating loss)] after every tenth of AHEAD steps
    of D alone."""
    trainer, found = trainer_of(seed), []
    for step, real in zip(range(AHEAD + 1), batches(pygan.datasets.mnist()[0], seed)):
        if step % (AHEAD // 10) == 0:
            logits = trainer.discriminator(trainer.generator(torch.randn(256, LATENT)))
            norms = []
            for loss in ("minimax", "non_saturating"):
                value = fused_losses.generator_loss(logits, loss=loss)
                parameters = trainer.generator.parameters()
                gradients = torch.autograd.grad(value, list(parameters), retain_graph=True)
                norms.append(torch.cat([g.flatten() for g in gradients]).norm().item())
            found.append((logits.sigmoid().mean().item(), norms[0] / norms[1]))
        trainer.discriminator_step(real)
    return found


def memorize(sigma, seed):
    """D's bound on the JSD of two random sets of digits, which is 0: on its training sets, and on unseen ones."""
    images = pygan.datasets.mnist()[0]
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    one, other, fresh, as_fresh = images[order[: 4 * FEW]].split(FEW)
    torch.manual_seed(seed)
    D = dcgan((1, 28, 28), latent=LATENT, width=16)[1]
    optimizer = torch.optim.Adam(D.parameters(), 1e-3)
    for _ in range(400):
        optimizer.zero_grad()
        logits = [
            D(pygan.instance_noise(x[torch.randint(FEW, (BATCH,))], sigma)) for x in (one, other)
        ]
        fused_losses.discriminator_loss(*logits).backward()
        optimizer.step()
    with torch.no_grad():
        return [
            lower_bounds(*(D(pygan.instance_noise(x, sigma)) for x in pair)).jsd.value.item()
            for pair in ((one, other), (fresh, as_fresh))
        ]


def play(options, seed):
    """Digits with a share of 2 % or more among 1,000 samples, their reverse KL, the Fréchet distance, and 8 samples."""
    images, trainer = pygan.datasets.mnist()[0], trainer_of(seed, **options)
    for _, real in zip(range(STEPS), batches(images, seed)):
        trainer.step(real)
    samples, classifier = trainer.sample(1000), metrics.MNISTClassifier()
    shares = F.one_hot(classifier.probabilities(samples).argmax(1), 10).double().mean(0)
    kl = torch.special.xlogy(shares, 10 * shares).sum().item()
    distance = metrics.frechet_distance(*map(classifier.features, (images[:1000], samples)))
    return (shares >= 0.02).sum().item(), kl, distance, samples[:8]


def main():
    it = page.Page(
        "Saturation, log 2 and mode collapse on handwritten digits",
        "What theory and points in the plane show also happens with images: at the start, the minimax loss has almost "
        "no gradient, unlike the non-saturating one; a discriminator that has memorized a few samples finds log 2 "
        "whatever the truth is, unless the noise is strong; at equal learning rates, a generator loses digits, and "
        "their shares are less uneven with noise or R1.",
        source="Goodfellow et al. 2014, section 3; Arjovsky and Bottou 2017, section 3; Metz et al. 2017",
    )
    metrics.MNISTClassifier()  # trained and cached once, before the processes use it
    seeds = range(SEEDS)
    start = it.over(at_the_start, seeds)
    ends = [run[-1] for run in start]
    ratio = page.spread([r for _, r in ends], 4)
    claim = f"after {AHEAD} steps of D alone, minimax has less than a tenth of the non-saturating gradient"
    numbers = f"{ratio} of it; D(G(z)) {page.spread([d for d, _ in ends], 4)}"
    it.check(claim, numbers, all(r < 0.1 for _, r in ends))
    claim = "the ratio of the two gradients is D(G(z)) / (1 - D(G(z))), within a factor of two"
    odds = [r / (d / (1 - d)) for d, r in ends]
    it.check(claim, page.spread(odds, 2), all(0.5 < x < 2 for x in odds))
    known = it.over(memorize, *zip(*((s, seed) for s in SIGMAS for seed in seeds)))
    known = {s: known[i * SEEDS : (i + 1) * SEEDS] for i, s in enumerate(SIGMAS)}
    for sigma, runs in known.items():
        seen, fresh = zip(*runs)
        numbers = f"{page.spread(seen, 2)}; on unseen digits {page.spread(fresh, 2)}"
        if sigma == 0:
            claim = (
                f"{FEW} digits and {FEW} others, with a JSD of 0: D's bound is within .02 of log 2"
            )
            it.check(claim, numbers, min(seen) > math.log(2) - 0.02)
        else:
            less = statistics.median(seen) < 0.5 * math.log(2)
            it.check(f"σ = {sigma:g}: at most half of log 2", numbers, less, expected=sigma > 1)
    runs = it.over(play, *zip(*((options, seed) for options in GAMES.values() for seed in seeds)))
    games = {name: runs[i * SEEDS : (i + 1) * SEEDS] for i, name in enumerate(GAMES)}
    plain = [kl for _, kl, *_ in games["equal rates"]]
    for name, found in games.items():
        modes, kl, distance, _ = zip(*found)
        numbers = f"{page.spread(modes, 0)}; reverse KL {page.spread(kl, 2)}, Fréchet {page.spread(distance, 0)}"
        if name.startswith("with"):
            claim = f"equal rates {name}: a smaller reverse KL with every seed"
            it.check(claim, numbers, all(a < b for a, b in zip(kl, plain)))
        else:
            claim = f"{name}: digits are missing in every run"
            it.check(claim, numbers, max(modes) < 10, expected=name == "equal rates")
    draw(it, start, known, games)


def draw(it, start, known, games):
    figure, axes = page.figure(width=11, height=3.9, columns=3)
    steps = range(0, AHEAD + 1, AHEAD // 10)
    for k, run in enumerate(start):
        label = "minimax / non-saturating" if k == 0 else None
        axes[0].semilogy(steps, [r for _, r in run], color=page.RED, label=label)
    axes[0].set(xlabel="steps of D alone", title="G's gradient at the start")
    axes[0].legend(frameon=False)
    for which, color, label in ((0, page.BLUE, "on what D has seen"), (1, page.GRAY, "on others")):
        middle = [statistics.median(run[which] for run in runs) for runs in known.values()]
        axes[1].plot(SIGMAS, middle, "o-", color=color, label=label)
    axes[1].axhline(math.log(2), color=page.GRAY, lw=0.8, ls=":")
    axes[1].set(xlabel="σ", ylim=(-3, 1.2), title="D's bound on a JSD that is 0")
    axes[1].legend(frameon=False, loc="lower right")
    rows = [torch.cat(list(found[0][3].squeeze(1)), 1) for found in games.values()]
    axes[2].imshow(torch.cat(rows).neg(), cmap="gray")
    axes[2].set(
        title=f"After {STEPS} steps", xticks=[], yticks=[14 + 28 * i for i in range(len(rows))]
    )
    axes[2].set_yticklabels(games)
    axes[2].tick_params(length=0)
    it.show(
        figure,
        "Left: the ratio of G's gradients, three seeds. Middle: D's bound (medians). "
        "Right: samples of the first seed.",
    )
    it.write(
        text="4,500 of MNIST's digits; the convolutional networks of `pygan train`, width 16, "
        "Adam (.5, .99) at 5e-4, batches of 64. Numbers are medians (and ranges) of three seeds. *D's bound*, on the "
        "JSD, is at most log 2 = 0.69. The last four rows begin with the number of digits that at least 2 % of 1,000 "
        "samples are classified as, by `pygan.metrics.MNISTClassifier`. Noise there: σ = 0.5; R1: γ = 1.",
        not_shown=[
            "That a noise level that prevents memorization is a good one for training.",
            "That noise or R1 improves the samples themselves: the Fréchet distances are no smaller.",
            "Good digits: 1,000 steps are the start of a run, and the classifier assigns even what is hardly a digit "
            "to one of the ten. docs/mode-coverage.md has full runs with other settings, which draw all ten.",
            "Other rates and networks: one of each was tried.",
        ],
    )


if __name__ == "__main__":
    main()
