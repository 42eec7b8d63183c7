"""Errors of equal mean squared error, what discriminators say of them, and what pixel losses and a GAN generate."""

import baselines
import page
import torch

import pygan
from pygan.training import models

SEEDS, JUDGES, JUDGE_STEPS, BATCH = 3, 10, 1000, 32
INK, PAPER = 1.0, -1.0
METRICS = [  # name, 1 if more is better, whether the order is that of the models
    ("classes with at least 10 samples that the classifier is sure of", 1, False),
    ("share of the samples that it is sure of", 1, True),
    ("Fréchet distance of its features", -1, True),
    ("Fréchet distance of pixels", -1, False),
]


def surroundings(images):
    """Which pixels have ink on one of their four sides, and which have nothing but paper all around: (N, 64) each."""
    ink, marks = (images > 0).float(), (images > PAPER).float()
    sides = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])[None, None]
    beside = torch.conv2d(ink, sides, padding=1) > 0
    alone = torch.conv2d(marks, torch.ones_like(sides), padding=1) == marks
    return beside.flatten(1), alone.flatten(1)


def blemished(images):
    """Each image with one pixel made ink, for each of the 64: (N, 64, 1, 8, 8)."""
    return torch.where(torch.eye(64).view(64, 1, 8, 8) > 0, INK, images[:, None])


def judge(kind, opponents):
    """Ten discriminators, trained at once, of digits against the images opponents[0], opponents[1] and so on, in turn:
    their logits of the blemished held-out digits, (10, 297, 64)."""
    train, test, _ = baselines.split_digits()
    torch.manual_seed(0)
    judges = [models.ARCHITECTURES[kind]((1, 8, 8), latent=1, width=32)[1] for _ in range(JUDGES)]
    weights, _ = torch.func.stack_module_state(judges)
    run = torch.vmap(lambda w, x: torch.func.functional_call(judges[0], w, x))
    optimizer = torch.optim.Adam(weights.values(), lr=1e-3, betas=(0.0, 0.99), fused=True)
    which = torch.arange(JUDGES)[:, None] % len(opponents)
    for _ in range(JUDGE_STEPS):
        real = train[torch.randint(len(train), (JUDGES, BATCH))]
        fake = opponents[which, torch.randint(opponents.shape[1], (JUDGES, BATCH))]
        logits = run(weights, torch.cat([real, fake], dim=1)).chunk(2, dim=1)
        optimizer.zero_grad()
        # Of a mean over all ten, of which each must have the gradient of its own.
        (JUDGES * pygan.fused_losses.discriminator_loss(*logits)).backward()
        optimizer.step()
    images = blemished(test)[:, None].expand(-1, JUDGES, -1, 1, 8, 8)
    with torch.no_grad():
        return torch.stack([run(weights, each)[..., 0] for each in images], dim=1)


def preferred(logits, pairs):
    """The share of the pairs whose plausible image has the larger logit; the mean over the digits that have pairs."""
    wins = ((logits[:, :, None] > logits[:, None, :]) & pairs).sum((1, 2))
    return (wins / pairs.sum((1, 2))).nanmean().item()


def main():
    it = page.Page(
        "Pixel loss is blind",
        "A longer stroke and a stray pixel may have the same squared error to a digit; a discriminator distinguishes "
        "them if its opponent makes such errors. A network trained on squared error generates worse digits than in a "
        "GAN.",
        source="Wang and Bovik 2009; Larsen et al. 2016, section 1; Goodfellow et al. 2014",
    )
    train, test, _ = baselines.split_digits()
    made = {m: it.over(baselines.generate, [m] * SEEDS, range(SEEDS)) for m in baselines.MODELS}
    (beside, alone), ink = surroundings(train), (train > 0).flatten(1)
    it.check(
        "in real digits, 98 % of ink pixels have ink on a side, and none have only paper around them",
        f"{ink[beside].sum() / ink.sum():.1%} and {ink[alone].sum()} of {ink.sum()} pixels",
        ink[beside].sum() >= 0.98 * ink.sum() and not ink[alone].any(),
    )
    places = [each & (test == PAPER).flatten(1) for each in surroundings(test)]
    pairs = places[0][:, :, None] & places[1][:, None, :]
    often = ink.float().mean(0)
    harder = pairs & (often[None, :] >= often[:, None])
    errors = (blemished(test) - test[:, None]).square().flatten(2).mean(2)[places[0] | places[1]]
    it.check(
        "mean squared error to the digit: equal in all pairs, within 1e-6",
        f"{errors.min():.6f} to {errors.max():.6f}, {pairs.sum()} pairs of {pairs.any(2).any(1).sum()} held-out digits",
        errors.max() - errors.min() < 1e-6,
    )
    anywhere = blemished(train)[(train == PAPER).flatten(1)][None]
    contests = ("mlp", "mlp", "dcgan"), (torch.stack(made["GAN"]), anywhere, anywhere)
    for kind, opponents, logits in zip(*contests, it.over(judge, *contests)):
        against = "spoilt digits" if opponents is anywhere else "a GAN's samples"
        for which, name in ((pairs, "all"), (harder, "the harder")):
            shares = [preferred(each, which) for each in logits]
            it.check(
                f"{kind} against {against}: prefers the plausible one in over half of {name} pairs, every time",
                f"{page.spread(shares, 2)} of {which.sum()}, {JUDGES} discriminators",
                min(shares) > 0.5,
                expected=kind == "dcgan" or (opponents is anywhere and which is pairs),
            )
    metrics = baselines.DigitMetrics()
    real = [a if i < 2 else b for i, (a, b) in enumerate(zip(metrics(test), metrics(train[500:])))]
    found = {m: list(zip(*map(metrics, samples))) for m, samples in made.items()}
    for i, (name, sign, expected) in enumerate(METRICS):
        x, y, z = values = [columns[i] for columns in found.values()]
        it.check(
            f"{name}: GAN best, then VAE, then auto-encoder, in every run",
            f"{'; '.join(f'{m} {page.spread(those)}' for m, those in zip(found, values))}; real digits {real[i]:.3f}",
            all(sign * a > sign * b > sign * c for a in x for b in y for c in z),
            expected=expected,
        )
    draw(it, test, made, places, logits.mean(0).sigmoid())
    it.write(
        text="A pixel of paper becomes ink: *plausible* beside ink, *stray* with paper on all eight sides. How many "
        f"digits have ink at a place decides {preferred(often.expand(len(test), 64), pairs):.0%} of all pairs; in the "
        "*harder* ones, it is no fewer at the stray place. *Spoilt*: any one pixel of paper becomes ink. mlp and "
        "dcgan, of "
        "`pygan.training.models`, have two hidden layers and one convolution.",
        not_shown=[
            "That a GAN's discriminator sees such errors: it learns where the GAN's samples and the data differ.",
            f"The best version of each model: nothing was tuned, and after {baselines.STEPS} steps VAE and GAN still "
            "improve.",
            "That samples are new, or that confidence is quality: it is closeness to digits according to one "
            "classifier.",
            "Unbiased distances: the distance of 1,000 real digits to 797 others is not 0. The pixels' covariance "
            "favors the auto-encoder, whose codes are drawn from a Gaussian fitted to the digits' codes.",
        ],
    )


def draw(it, test, made, places, D):
    figure, axes = page.figure(width=9, height=4, rows=4, columns=12)
    torch.manual_seed(0)
    chosen = torch.stack([torch.multinomial(mask[:4].float(), 1)[:, 0] for mask in places], 1)
    for row, (name, samples) in enumerate({"real": [test[4:]], **made}.items()):
        errors = blemished(test)[row, chosen[row]]
        images = [test[row], *errors, torch.ones(1, 8, 8), *samples[0][:8]]
        labels = ["", *(f"D = {D[row, i]:.2f}" for i in chosen[row]), *[""] * 9]
        for each, image, label in zip(axes[row], images, labels):
            each.set(xticks=[], yticks=[], xlabel=label)
            each.spines[:].set(visible=True, color="0.8")
            each.imshow(image[0], cmap="gray_r", vmin=PAPER, vmax=INK)
        axes[row, 3].set_visible(False)
        axes[row, 4].set_ylabel(name, fontsize=9)
    for each, title in zip(axes[0], ["digit", "longer\nMSE 0.0625", "stray\nMSE 0.0625"]):
        each.set_title(title, fontsize=8)
    it.show(
        figure,
        "Left: digits, two errors of equal MSE in each, and the verdict of ten dcgan discriminators. Right: the "
        "first eight samples of each.",
    )


if __name__ == "__main__":
    main()
