"""A tiny VQGAN on synthetic pictures, with LeCam.

It has a reconstruction loss, an adversarial loss balanced with it at the decoder's last layer, and a patch
discriminator that starts late, and takes seconds on a CPU.

    python examples/vqgan.py          # with pygan's losses
    python examples/vqgan.py --plain  # with the lines that they replace: the same numbers

At the end it times both on the discriminator's own logits.
"""

import argparse
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.benchmark import Timer

from pygan import fused_losses, penalties

SIZE, BATCH, WIDTH = 32, 8, 16
DISC_WEIGHT, LECAM_WEIGHT, DECAY = 0.8, 0.05, 0.9


# --- the losses, before and after -----------------------------------------------------------------


def plain_discriminator_loss(r, f, on):
    hinge = torch.mean(F.relu(1.0 - r)) + torch.mean(F.relu(1.0 + f))
    return on * 0.5 * hinge


def plain_generator_loss(f):
    return -torch.mean(f)


def plain_adaptive_weight(nll, g_loss, last_layer):
    (nll_gradient,) = torch.autograd.grad(nll, last_layer, retain_graph=True)
    (g_gradient,) = torch.autograd.grad(g_loss, last_layer, retain_graph=True)
    weight = torch.norm(nll_gradient) / (torch.norm(g_gradient) + 1e-4)
    return torch.clamp(weight, 0.0, 1e4).detach()


def plain_lecam():
    means = [torch.zeros(()), torch.zeros(())]

    def penalty(r, f):
        new = r.detach().mean(), f.detach().mean()
        means[:] = [DECAY * a + (1 - DECAY) * b for a, b in zip(means, new, strict=True)]
        above = torch.mean(F.relu(r - means[1]) ** 2)
        below = torch.mean(F.relu(means[0] - f) ** 2)
        return LECAM_WEIGHT * (above + below)

    return penalty


def fused_discriminator_loss(r, f, on):
    return fused_losses.discriminator_loss(r, f, loss="hinge", weights=0.5 * on)


def fused_generator_loss(f):
    return fused_losses.generator_loss(f, loss="hinge")


def fused_adaptive_weight(nll, g_loss, last_layer):
    return penalties.adaptive_weight(nll, g_loss, last_layer)


def fused_lecam():
    return penalties.LeCam(LECAM_WEIGHT, decay=DECAY, start=0)


PLAIN = SimpleNamespace(
    lecam=plain_lecam,
    discriminator=plain_discriminator_loss,
    generator=plain_generator_loss,
    adaptive_weight=plain_adaptive_weight,
)
FUSED = SimpleNamespace(
    lecam=fused_lecam,
    discriminator=fused_discriminator_loss,
    generator=fused_generator_loss,
    adaptive_weight=fused_adaptive_weight,
)


# --- data and networks ----------------------------------------------------------------------------


def pictures(count):
    """(count, 3, SIZE, SIZE) in -1 ... 1: a soft disc on a background, both in random colors."""
    grid = torch.linspace(-1, 1, SIZE)
    x, y, radius = 1.2 * torch.rand(3, count, 1, 1) - 0.6
    distance = ((grid - x) ** 2 + (grid[:, None] - y) ** 2).sqrt()
    disc = torch.sigmoid(20 * (0.4 + 0.3 * radius - distance)).unsqueeze(1)
    inside, outside = 2 * torch.rand(2, count, 3, 1, 1) - 1
    return disc * inside + (1 - disc) * outside


class Autoencoder(nn.Module):
    """SIZE / 4 x SIZE / 4 codes per picture, with eight channels that are rounded to -2 ... 2 (finite scalar
    quantization, Mentzer et al. 2023)."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Conv2d(3, WIDTH, 4, 2, padding=1), nn.SiLU()),
            *(nn.Conv2d(WIDTH, 2 * WIDTH, 4, 2, padding=1), nn.SiLU()),
            nn.Conv2d(2 * WIDTH, 8, 1),
        )
        self.decoder = nn.Sequential(
            *(nn.Conv2d(8, 2 * WIDTH, 3, padding=1), nn.SiLU(), nn.Upsample(scale_factor=2)),
            *(nn.Conv2d(2 * WIDTH, WIDTH, 3, padding=1), nn.SiLU(), nn.Upsample(scale_factor=2)),
            nn.Conv2d(WIDTH, 3, 3, padding=1),
        )

    @property
    def last_layer(self):
        return self.decoder[-1].weight

    def forward(self, x):
        z = 2 * torch.tanh(self.encoder(x))
        return self.decoder(z + (z.round() - z).detach())


def discriminator():
    """A patch discriminator with logits (N, 1, 7, 7)."""
    return nn.Sequential(
        *(nn.Conv2d(3, WIDTH, 4, 2, padding=1), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(WIDTH, 2 * WIDTH, 4, 2, padding=1), nn.LeakyReLU(0.2)),
        nn.Conv2d(2 * WIDTH, 1, 4, padding=1),
    )


# --- training -------------------------------------------------------------------------------------


def train(losses, steps, seed=0):
    """Train; returns a row per step (reconstruction, weight, G's and D's loss, LeCam), and the last logits of both
    kinds. The discriminator starts after a third of the steps."""
    torch.manual_seed(seed)
    G, D = Autoencoder(), discriminator()
    g_optimizer, d_optimizer = (
        torch.optim.Adam(net.parameters(), lr=2e-3, betas=(0.5, 0.9)) for net in (G, D)
    )
    lecam = losses.lecam()
    rows = []
    for step in range(steps):
        on = float(step >= steps // 3)
        real = pictures(BATCH)
        fake = G(real)

        nll = F.l1_loss(fake, real)
        g_loss = losses.generator(D(fake))
        weight = losses.adaptive_weight(nll, g_loss, G.last_layer)
        g_optimizer.zero_grad()
        (nll + on * DISC_WEIGHT * weight * g_loss).backward()
        g_optimizer.step()

        r, f = D(real), D(fake.detach())
        d_loss = losses.discriminator(r, f, on)
        regularization = on * lecam(r, f)
        d_optimizer.zero_grad()
        (d_loss + regularization).backward()
        d_optimizer.step()
        rows.append(torch.stack([nll, weight, g_loss, d_loss, regularization]).detach())
    return torch.stack(rows), r, f


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plain", action="store_true", help="the losses as lines of plain PyTorch")
    parser.add_argument("--steps", type=int, default=300, help="training iterations (default: 300)")
    args = parser.parse_args()
    if args.steps < 1:
        parser.error(f"--steps must be at least 1, got {args.steps}")

    rows, r, f = train(PLAIN if args.plain else FUSED, args.steps)
    for step in sorted({0, args.steps // 3, args.steps - 1}):
        nll, weight, g, d, lecam = rows[step].tolist()
        print(
            f"step {step + 1}: reconstruction {nll:.4f}  weight {weight:.2f}  G {g:.3f}  D {d:.3f}  LeCam {lecam:.4f}"
        )

    scope = {"r": r.detach().requires_grad_(), "f": f.detach().requires_grad_()}
    hinge = "losses.generator(f).backward(); losses.discriminator(r, f, 1.0).backward()"
    for name, statement in (("losses of G and D", hinge), ("LeCam", "lecam(r, f).backward()")):
        plain, fused = (
            Timer(statement, globals=scope | {"losses": losses, "lecam": losses.lecam()})
            .blocked_autorange(min_run_time=0.5)
            .median
            for losses in (PLAIN, FUSED)
        )
        print(
            f"{name}, forward and backward: plain {1e6 * plain:.0f} us, pygan {1e6 * fused:.0f} us, "
            f"{plain / fused:.1f} x"
        )


if __name__ == "__main__":
    main()
