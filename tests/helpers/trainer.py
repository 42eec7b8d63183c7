"""Small networks for a GANTrainer, and all the state that training may change."""

import copy

import torch
from torch import nn

import pygan


def networks(seed=0):
    torch.manual_seed(seed)
    generator = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6))
    discriminator = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
    return generator, discriminator


def setup(seed=0, **options):
    generator, discriminator = networks(seed)
    optimizers = (
        torch.optim.Adam(generator.parameters(), lr=1e-2),
        torch.optim.Adam(discriminator.parameters(), lr=1e-2),
    )
    options = {"latent": 4, **options}
    return pygan.GANTrainer(generator, discriminator, *optimizers, **options)


def everything(trainer):
    """A copy of all the state that training may change."""
    parts = (trainer.generator, trainer.discriminator, trainer.g_optimizer, trainer.d_optimizer)
    state = [copy.deepcopy(part.state_dict()) for part in parts]
    flags = [p.requires_grad for part in parts[:2] for p in part.parameters()]
    step = None if trainer.noise is None else trainer.noise.stream.step
    return state, flags, step, trainer.stream.step, trainer.steps, trainer.d_updates


def assert_same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


class Point(nn.Module):
    """The Dirac-GAN's generator (Mescheder et al. 2018): every sample is theta."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([[theta]]))

    def forward(self, z):
        return self.theta.expand(len(z), 1)


def dirac(loss, lr, theta, **options):
    """Data at 0, D(x) = psi x, initially psi = 0."""
    generator, discriminator = Point(theta), nn.Linear(1, 1, bias=False)
    nn.init.zeros_(discriminator.weight)
    sgd = (torch.optim.SGD(net.parameters(), lr=lr) for net in (generator, discriminator))
    return pygan.GANTrainer(generator, discriminator, *sgd, latent=1, loss=loss, **options)
