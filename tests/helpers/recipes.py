"""A trainer in float64, and copies of its networks and optimizers for a loop in plain PyTorch."""

import copy

import torch
from torch import nn

import pygan


class Scales(nn.Module):
    """A discriminator of three scales."""

    def __init__(self):
        super().__init__()
        self.scales = nn.ModuleList(nn.Linear(6, n) for n in (1, 3, 2))

    def forward(self, x):
        return [scale(x) for scale in self.scales]


def generator():
    # No bias before BatchNorm: its gradient is 0, and Adam would amplify the rounding errors to full steps.
    first = [nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU()]
    return nn.Sequential(*first, nn.Linear(8, 6))


def discriminator():
    """Smooth, with second derivatives."""
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))


def normalized_discriminator():
    first = [nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 8, bias=False)]
    return nn.Sequential(*first, nn.BatchNorm1d(8), nn.LeakyReLU(0.2), nn.Linear(8, 1))


class Autoencoder(nn.Module):
    """A small version of VQGAN's generator: returns the reconstruction and the codebook's loss."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 3), nn.Linear(3, 6)

    def forward(self, x):
        code = self.first(x)
        quantized = code + (code.round() - code).detach()
        return self.last(quantized), (code - code.round().detach()).square().mean()


def pairs(D=None, G=None, **options):
    """A trainer in float64, and copies of its networks and optimizers for the manual loop."""
    torch.manual_seed(0)
    G = (generator() if G is None else G).double()
    D = (discriminator() if D is None else D).double()
    nets = [(G, D), copy.deepcopy((G, D))]
    optimizers = [
        [torch.optim.Adam(net.parameters(), lr=1e-2, betas=(0.5, 0.999)) for net in both]
        for both in nets
    ]
    trainer = pygan.GANTrainer(*nets[0], *optimizers[0], **{"latent": 4, **options})
    return trainer, *nets[1], *optimizers[1]


def latents(n, size=8, width=4):
    """n batches, and a function that returns them in turn, for ``latent=``."""
    drawn = [torch.randn(size, width, dtype=torch.float64) for _ in range(n)]
    handed_out = iter(drawn)
    return drawn, lambda n: next(handed_out)


def update(optimizer, loss, *others):
    """A step of one network, for the manual loop, with a backward pass for each loss."""
    optimizer.zero_grad()
    for each in (loss, *others):
        each.backward()
    optimizer.step()


def assert_close(trainer, G, D):
    for ours, theirs in ((trainer.generator, G), (trainer.discriminator, D)):
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-9, atol=1e-12)
