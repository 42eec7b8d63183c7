"""GANTrainer against the same loop written by hand, and both against plain PyTorch without pygan.

    python benchmarks/trainer.py [--threads 2] [--device cpu|cuda] [--seconds 2] [--markdown]

One iteration: a discriminator step and a generator step, with Adam. By hand means what a careful user writes with
`fused_losses` and `InstanceNoise`: the other network frozen, gradients set to None, statistics kept. The overhead is
what the trainer takes beyond that; plain PyTorch computes binary_cross_entropy_with_logits and draws randn_like, and
keeps no statistics.
"""

from functools import partial

import timing
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce

import pygan
from pygan import fused_losses
from pygan.penalties import R1
from pygan.training.models import dcgan, mlp

LATENT, SIGMA = 64, 0.1
MODELS = {
    "MLP, 2-D, batch 100": (100, (2,), lambda: mlp((2,), latent=LATENT, width=128, depth=3)),
    "MLP, 8 x 8, batch 64": (64, (1, 8, 8), lambda: mlp((1, 8, 8), latent=LATENT, width=256)),
    "DCGAN, 32 x 32, batch 16": (
        16,
        (3, 32, 32),
        lambda: dcgan((3, 32, 32), latent=LATENT, width=16),
    ),
}


def made(model, args):
    torch.manual_seed(0)
    G, D = (net.to(args.device) for net in model())
    return G, D, *(torch.optim.Adam(net.parameters(), lr=1e-4, fused=True) for net in (G, D))


def trained(model, args, penalties):
    trainer = pygan.GANTrainer(*made(model, args), latent=LATENT, noise=SIGMA, penalties=penalties)
    return trainer.step


def by_hand(model, args, gamma):
    G, D, g_optimizer, d_optimizer = made(model, args)
    stream = pygan.NoiseStream(0, device=args.device)
    noise = pygan.InstanceNoise(pygan.schedules.Constant(SIGMA), seed=0).to(args.device)
    g_parameters, d_parameters = list(G.parameters()), list(D.parameters())

    def latents(n):
        z = torch.zeros(n, LATENT, device=args.device)
        return pygan.instance_noise(z, 1.0, stream=stream, out=z)

    def step(real):
        for p in g_parameters:
            p.requires_grad_(False)
        with torch.no_grad():
            fake = G(latents(len(real)))
        if gamma:
            real = real.detach().requires_grad_()
        real_logits = D(noise(real))
        fake_logits = D(noise(fake))
        d_loss, d = fused_losses.discriminator_loss(real_logits, fake_logits, return_stats=True)
        total = d_loss
        if gamma:
            (slope,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True)
            total = d_loss + gamma / 2 * slope.square().flatten(1).sum(1).mean()
        d_optimizer.zero_grad(set_to_none=True)
        total.backward()
        d_optimizer.step()
        for p in g_parameters:
            p.requires_grad_(True)
        for p in d_parameters:
            p.requires_grad_(False)
        fake_logits = D(noise(G(latents(len(real)))))
        g_loss, g = fused_losses.generator_loss(fake_logits, return_stats=True)
        g_optimizer.zero_grad(set_to_none=True)
        g_loss.backward()
        g_optimizer.step()
        for p in d_parameters:
            p.requires_grad_(True)
        return d_loss.detach(), g_loss.detach(), d, g

    return step


def plain(model, args):
    G, D, g_optimizer, d_optimizer = made(model, args)

    def noisy(x):
        return x + SIGMA * torch.randn_like(x)

    def step(real):
        with torch.no_grad():
            fake = G(torch.randn(len(real), LATENT, device=args.device))
        real_logits, fake_logits = D(noisy(real)), D(noisy(fake))
        ones = torch.ones_like(real_logits)
        d_loss = bce(real_logits, ones) + bce(fake_logits, torch.zeros_like(fake_logits))
        d_optimizer.zero_grad(set_to_none=True)
        d_loss.backward()
        d_optimizer.step()
        fake_logits = D(noisy(G(torch.randn(len(real), LATENT, device=args.device))))
        g_loss = bce(fake_logits, ones)
        g_optimizer.zero_grad(set_to_none=True)
        g_loss.backward()
        g_optimizer.step()

    return step


def main():
    args = timing.parser(__doc__).parse_args()
    timing.announce(args, "one iteration; overhead: trainer against by hand, plain against trainer")
    table = timing.Table(args, "model", "trainer", "by hand", "overhead", "plain", "ratio")
    for name, (n, shape, model) in MODELS.items():
        real = torch.randn(n, *shape, device=args.device)
        for label, gamma in ((name, 0.0), ("  with R1", 1.0)):
            steps = [trained(model, args, R1(gamma) if gamma else ()), by_hand(model, args, gamma)]
            if not gamma:
                steps.append(plain(model, args))
            times = timing.interleaved([partial(step, real) for step in steps], args)
            cells = [times[0], times[1], f"{100 * (times[0] / times[1] - 1):+.1f} %"]
            if not gamma:
                cells += [times[2], f"{times[2] / times[0]:.2f} x"]
            table.row(label, *cells)


if __name__ == "__main__":
    main()
