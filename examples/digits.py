"""A GAN on scikit-learn's 1,797 handwritten digits, with pygan's fused losses and annealed instance noise.

    python examples/digits.py --out demo

Trains two small networks on 8 x 8 images, on the GPU if there is one and on the CPU otherwise, and writes into --out

    samples.png    generated digits below real ones
    curves.png     losses, D(x) and D(G(z)), the bound on the Jensen-Shannon divergence, the noise
    metrics.jsonl  the same numbers, one line every 25 steps
    summary.json   statistics of 1,000 samples from a classifier that was trained on the real digits

The same seed gives the same files, byte for byte, on the same machine.
"""

import argparse
import json
import os
import time
from pathlib import Path

# Makes cuBLAS reproducible; read when CUDA is initialized.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

import pygan

LATENT, WIDTH, BATCH, EVERY, SURE = 32, 128, 64, 25, 0.9
LOG2 = float(np.log(2.0))


def networks():
    """A generator and a discriminator with two hidden layers each."""

    def g_hidden(inputs):
        return nn.Linear(inputs, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU()

    def d_hidden(inputs):
        return nn.Linear(inputs, WIDTH), nn.LeakyReLU(0.2)

    G = nn.Sequential(*g_hidden(LATENT), *g_hidden(WIDTH), nn.Linear(WIDTH, 64), nn.Tanh())
    D = nn.Sequential(*d_hidden(64), *d_hidden(WIDTH), nn.Linear(WIDTH, 1))
    return G, D


def train(data, steps, seed):
    """Train on data (N, 64), on their device; return the averaged generator and the metrics."""
    G, D = (net.to(data.device) for net in networks())
    g_optimizer, d_optimizer = optimizers = [
        torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.0, 0.99), fused=True) for net in (G, D)
    ]
    # The learning rates decay in the second half, so that both networks settle.
    rates = [LambdaLR(opt, lambda i: min(1.0, 1.9 - 1.8 * i / steps)) for opt in optimizers]
    sigma = pygan.schedules.Cosine(0.5, 0.05, steps=max(1, steps * 4 // 5))
    noise = pygan.InstanceNoise(sigma, seed=seed).to(data.device)
    trainer = pygan.GANTrainer(G, D, g_optimizer, d_optimizer, latent=LATENT, noise=noise)
    # Samples come from the average of the weights, which smooths out the oscillations of training.
    average = pygan.EMA(G, 0.995)

    metrics = []
    bar = tqdm(range(1, steps + 1), desc=f"training on {data.device}", unit="step")
    for step in bar:
        stats = trainer.step(data[torch.randint(len(data), (BATCH,), device=data.device)])
        for schedule in (*rates, noise):
            schedule.step()
        if step % 5 == 0 or step == steps:
            average.update_parameters(G)
        if step % EVERY == 0 or step == steps:
            # The only synchronization with the device.
            values = torch.stack([*stats, noise.sigma]).tolist()
            row = dict(zip((*stats._fields, "sigma"), values, strict=True))
            metrics.append({"step": step, **row})
            bar.set_postfix_str(
                "loss D {d_loss:.2f} G {g_loss:.2f}  D(x) {d_real:.2f}  D(G(z)) {d_fake:.2f}  "
                "JSD ≥ {jsd_bound:+.2f}  σ {sigma:.2f}".format_map(row),
                refresh=False,
            )
    return average.module.eval(), metrics


def judge(images, labels, samples):
    """Statistics of the samples, and of one half of the real digits, from a classifier trained on the other half."""
    train, test = slice(0, None, 2), slice(1, None, 2)
    # RBF features: the classifier is unsure of images that are far from all digits.
    features = Nystroem(gamma=0.02, n_components=400, random_state=0)
    classifier = make_pipeline(features, LogisticRegression(C=30, max_iter=500))
    classifier.fit(images[train], labels[train])
    scrambled = np.random.default_rng(0).permuted(images[test], axis=1)
    sure, real_sure, scrambled_sure = (
        classifier.predict_proba(x).max(1) > SURE for x in (samples, images[test], scrambled)
    )
    digits = classifier.predict(samples)
    counts = np.bincount(digits[sure], minlength=10)
    return digits, {
        "classes": int(
            (counts >= 10).sum()
        ),  # at least 1 %, so that a few errors do not count as a class
        "sure": float(sure.mean()),
        "counts": np.bincount(digits, minlength=10).tolist(),
        "sure_counts": counts.tolist(),
        "real_sure": float(real_sure.mean()),
        "real_accuracy": float(classifier.score(images[test], labels[test])),
        "scrambled_sure": float(scrambled_sure.mean()),
    }


def draw_samples(path, images, labels, samples, digits):
    """Real digits above generated ones. The classifier assigns samples to columns; within a column there is no
    selection."""
    figure = Figure(figsize=(8.2, 9.2), facecolor="white")
    rows = [("real", images, labels, i) for i in range(2)]
    rows += [("generated", samples, digits, i) for i in range(8)]
    for y, (title, pictures, classes, i) in enumerate(rows):
        for digit in range(10):
            top = 0.86 - 0.0925 * y - 0.02 * (title == "generated")
            axes = figure.add_axes((0.06 + 0.093 * digit, top, 0.085, 0.085), xticks=[], yticks=[])
            axes.spines[:].set_color("0.85")
            found = np.flatnonzero(classes == digit)
            if i < len(found):
                # A blank frame, because strokes touch the border and would look cut off when enlarged.
                picture = np.pad(pictures[found[i]].reshape(8, 8), 1, constant_values=-1)
                axes.imshow(picture, cmap="gray_r", vmin=-1, vmax=1, interpolation="bicubic")
            else:
                axes.set_box_aspect(1)  # an empty frame, as large as the others
            if y == 0:
                axes.set_title(str(digit), fontsize=10)
            if digit == 0 and i == 0:
                axes.set_ylabel(title, fontsize=10)
    title = "8 × 8 digits, enlarged; generated ones sorted by what a classifier sees"
    figure.suptitle(title, fontsize=11, y=0.99)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def draw_curves(path, metrics):
    """Four panels over the steps: measurements in a light color, with their running means."""
    figure = Figure(figsize=(10, 6.4), facecolor="white", layout="constrained")
    panels = (losses, outputs), (bound, sigma) = figure.subplots(2, 2, sharex=True)

    def curve(axes, key, color, label):
        steps, values = np.array([(row["step"], row[key]) for row in metrics]).T
        width = max(1, min(10, len(values) // 8))
        padded = np.pad(values, width, mode="edge")
        smooth = np.convolve(padded, np.full(2 * width + 1, 1 / (2 * width + 1)), mode="valid")
        axes.plot(steps, values, color=color, alpha=0.25, linewidth=0.7)
        axes.plot(steps, smooth, color=color, linewidth=1.8, label=label)

    def line(axes, y, label):
        axes.axhline(y, color="0.4", linestyle="--", linewidth=1, label=label)

    curve(losses, "d_loss", "tab:blue", "discriminator")
    curve(losses, "g_loss", "tab:orange", "generator")
    line(losses, 2 * LOG2, "2 log 2: D cannot tell")
    losses.set(title="Losses", ylabel="nats", ylim=(0, None))
    curve(outputs, "d_real", "tab:blue", "D(x), real")
    curve(outputs, "d_fake", "tab:orange", "D(G(z)), generated")
    line(outputs, 0.5, "1/2: D cannot tell")
    outputs.set(title="What D says", ylabel="mean probability of being real", ylim=(0, 1))
    curve(bound, "jsd_bound", "tab:green", "log 2 − loss of D / 2")
    line(bound, LOG2, "log 2: disjoint, nothing to learn from")
    bound.set(title="Lower bound of the Jensen–Shannon divergence", xlabel="step", ylabel="nats")
    curve(sigma, "sigma", "tab:red", "σ, for pixels in −1 … 1")
    sigma.set(title="Instance noise", xlabel="step", ylabel="standard deviation", ylim=(0, None))
    for axes in np.ravel(panels):
        axes.legend(frameon=False, fontsize=8, loc="lower left" if axes is losses else "best")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main():
    info = pygan.build_info()
    usable = "cuda" if torch.cuda.is_available() and info["cuda"] else "cpu"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--out", type=Path, default=Path("demo"), help="folder for the files (default: demo)")
    add("--steps", type=int, default=6000, help="training iterations (default: 6000)")
    add("--seed", type=int, default=0, help="of everything (default: 0)")
    add("--device", default=usable, help=f"cpu or cuda (default here: {usable})")
    args = parser.parse_args()
    if args.steps < 1:
        parser.error(f"--steps must be at least 1, got {args.steps}")
    args.out.mkdir(parents=True, exist_ok=True)

    # One thread: the networks are small, and sums would depend on the number of threads.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(args.seed)
    images, labels = load_digits(return_X_y=True)
    images = (images / 8 - 1).astype(np.float32)  # from 0 ... 16 to -1 ... 1
    data = torch.from_numpy(images).to(args.device)
    began = time.perf_counter()
    generator, metrics = train(data, args.steps, args.seed)
    seconds = time.perf_counter() - began
    with torch.no_grad():
        samples = generator(torch.randn(1000, LATENT, device=args.device)).cpu().numpy()
    digits, seen = judge(images, labels, samples)

    summary = {"seed": args.seed, "steps": args.steps, "device": data.device.type, **seen}
    (args.out / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    (args.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    draw_samples(args.out / "samples.png", images, labels, samples, digits)
    draw_curves(args.out / "curves.png", metrics)
    kernels = f"CPU kernels: {info['cpu_capability']}" if data.is_cpu else "CUDA kernels"
    print(f"""
Trained {args.steps} steps in {seconds:.0f} s ({kernels}).
A classifier of the real digits, right on {seen["real_accuracy"]:.1%} of those it has not seen, sees
  {seen["classes"]} of 10 classes among 1,000 samples, and is sure (p > {SURE}) of {seen["sure"]:.1%} of them
  (of the real digits {seen["real_sure"]:.1%}, of the same with scrambled pixels {seen["scrambled_sure"]:.1%});
  samples of each class from 0 to 9: {seen["counts"]}
  sure ones:                         {seen["sure_counts"]}
In {args.out}: samples.png curves.png metrics.jsonl summary.json""")


if __name__ == "__main__":
    main()
