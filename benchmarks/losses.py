"""The GAN losses, forward and backward, against eager PyTorch.

    python benchmarks/losses.py [--compile] [--threads 2] [--device cpu|cuda] [--seconds 2] [--markdown]

The rival is the fastest of what people write: softplus or relu expressions, binary cross-entropy with
logits, and with --compile torch.compile of the former. Ratios above 1 are in pygan's favour; where it is
slower, the table says so. The last two columns are *_loss_and_grad, GANTrainer's way: the gradients by the
logits, without the start of autograd's engine and the accumulation into leaves that the others contain.
"""

import math

import timing
import torch
from torch.nn import functional as F

from pygan import fused_losses
from pygan.fused_losses import LOSSES

s = F.softplus

# As one writes them: functions of (real, fake).
D = {
    "non_saturating": lambda r, f: s(-r).mean() + s(f).mean(),
    "minimax": lambda r, f: s(-r).mean() + s(f).mean(),
    "hinge": lambda r, f: F.relu(1 - r).mean() + F.relu(1 + f).mean(),
    "least_squares": lambda r, f: 0.5 * ((r - 1) ** 2).mean() + 0.5 * (f**2).mean(),
    "wasserstein": lambda r, f: f.mean() - r.mean(),
    "relativistic": lambda r, f: s(f - r).mean(),
    "relativistic_average": lambda r, f: s(f.mean() - r).mean() + s(f - r.mean()).mean(),
}
G = {
    "non_saturating": lambda r, f: s(-f).mean(),
    "minimax": lambda r, f: -s(f).mean(),
    "hinge": lambda r, f: -f.mean(),
    "least_squares": lambda r, f: 0.5 * ((f - 1) ** 2).mean(),
    "wasserstein": lambda r, f: -f.mean(),
    "relativistic": lambda r, f: s(r - f).mean(),
    "relativistic_average": lambda r, f: s(r.mean() - f).mean() + s(r - f.mean()).mean(),
}


def bce(name, kind, ones, zeros):
    cross_entropy = F.binary_cross_entropy_with_logits
    if kind == "D" and name in ("non_saturating", "minimax"):
        return lambda r, f: cross_entropy(r, ones) + cross_entropy(f, zeros)
    if kind == "G" and name == "non_saturating":
        return lambda r, f: cross_entropy(f, ones)
    if kind == "G" and name == "minimax":
        return lambda r, f: -cross_entropy(f, zeros)
    return None


def fused(name, kind):
    if kind == "D":
        return lambda r, f: fused_losses.discriminator_loss(r, f, loss=name)
    if fused_losses.compares(name):
        return lambda r, f: fused_losses.generator_loss(f, real_logits=r, loss=name)
    return lambda r, f: fused_losses.generator_loss(f, loss=name)


def direct(name, kind, real, fake):
    """The gradients without a node of autograd."""
    if kind == "D":
        return lambda: fused_losses.discriminator_loss_and_grad(real, fake, loss=name)
    real = real if fused_losses.compares(name) else None
    return lambda: fused_losses.generator_loss_and_grad(fake, real_logits=real, loss=name)


def leaves(shapes, device):
    return [torch.randn(shape, device=device, requires_grad=True) for shape in shapes]


def trained(loss, *logits):
    """One step's work: the loss and its gradients, from none."""
    flat = [x for group in logits for x in (group if isinstance(group, list) else [group])]

    def run():
        for x in flat:
            x.grad = None
        loss(*logits).backward()

    return run


def family(args, table):
    for name in LOSSES:
        for kind, eager in (("D", D), ("G", G)):
            for n in (1, 64, 1 << 12, 1 << 16, 1 << 20):
                real, fake = leaves([n, n], args.device)
                ones, zeros = torch.ones_like(fake), torch.zeros_like(fake)
                rivals = [eager[name], bce(name, kind, ones.detach(), zeros.detach())]
                if args.compile:
                    torch._dynamo.reset()
                    rivals.append(torch.compile(eager[name]))
                losses = [loss for loss in rivals if loss is not None] + [fused(name, kind)]
                runs = [trained(f, real, fake) for f in losses]
                runs.append(direct(name, kind, real, fake))
                *them, us, grads = timing.interleaved(runs, args)
                ratios = f"{min(them) / us:.1f} x", grads, f"{min(them) / grads:.1f} x"
                table.row(f"{kind} {name}", n, min(them), us, *ratios)


def eager_stats(r, f):
    """The dozen ops that return_stats replaces."""
    with torch.no_grad():
        return (
            r.mean(),
            f.mean(),
            r.sigmoid().mean(),
            f.sigmoid().mean(),
            (r > 0).float().mean(),
            (f < 0).float().mean(),
            r.sign().mean(),
            math.log(2) - (s(-r).mean() + s(f).mean()) / 2,
            (~r.isfinite()).sum() + (~f.isfinite()).sum(),
        )


def with_stats(args, table):
    for n in (64, 1 << 16, 1 << 20):
        real, fake = leaves([n, n], args.device)

        def eager(r, f):
            eager_stats(r, f)
            return D["non_saturating"](r, f)

        def ours(r, f):
            return fused_losses.discriminator_loss(r, f, return_stats=True)[0]

        losses = [eager, fused("non_saturating", "D"), ours]
        them, plain, us = timing.interleaved([trained(f, real, fake) for f in losses], args)
        more = f"{them / us:.1f} x, {100 * (us / plain - 1):+.0f} % of the loss alone"
        table.row("D with statistics", n, them, us, more)


# The logits of HiFi-GAN's discriminators (Kong et al. 2020: three scales, five periods) on a batch of 16
# segments of 8,192 samples.
HIFI_GAN = [(16, n) for n in (128, 65, 33, 102, 102, 105, 105, 110)]


def lists(args, table):
    real, fake = leaves(HIFI_GAN, args.device), leaves(HIFI_GAN, args.device)
    for name in LOSSES:

        def eager(r, f, name=name):
            return sum(D[name](a, b) for a, b in zip(r, f, strict=True))

        losses = [eager, fused(name, "D")]
        them, us = timing.interleaved([trained(f, real, fake) for f in losses], args)
        table.row(f"D {name}, list of 8", 16 * 750, them, us, f"{them / us:.1f} x")


def main():
    options = timing.parser(__doc__)
    options.add_argument("--compile", action="store_true", help="torch.compile among the rivals")
    args = options.parse_args()
    timing.announce(args, "forward + backward")
    table = timing.Table(args, "loss", "N", "rival", "pygan", "ratio", "and_grad", "ratio")
    lists(args, table)
    with_stats(args, table)
    family(args, table)
    # About the least that forward and backward from two leaves can take.
    (least,) = timing.interleaved(
        [trained(lambda a, b: a + b, *leaves([(), ()], args.device))], args
    )
    print(f"\nFor scale, forward and backward of the sum of two numbers: {least:.1f} µs")


if __name__ == "__main__":
    main()
