"""Training runs for the monitor's tests: healthy ones, and one for each problem. Small networks on 1-D, 2-D and 8 x 8
data; a run takes a second or two."""

import functools
import math

import torch
from torch import nn

import pygan
from pygan.monitor import Monitor
from pygan.penalties import R1, R2
from pygan.schedules import Linear

EVERY, WINDOW = 2, 32


def mlp(inputs, outputs, width=64, activation=nn.ReLU):
    return nn.Sequential(
        nn.Linear(inputs, width),
        activation(),
        nn.Linear(width, width),
        activation(),
        nn.Linear(width, outputs),
    )


def leaky():
    return nn.LeakyReLU(0.2)


def adam(network, lr, betas=(0.0, 0.99)):
    return torch.optim.Adam(network.parameters(), lr=lr, betas=betas, fused=True)


def ring(n, generator):
    """Eight modes on the unit circle."""
    angle = torch.randint(8, (n,), generator=generator) * (2 * math.pi / 8)
    return torch.stack([angle.cos(), angle.sin()], 1) + 0.01 * torch.randn(
        n, 2, generator=generator
    )


def far(n, generator):
    """A small cloud of points, far from a generator's initial samples."""
    return 4 + 0.1 * torch.randn(n, 2, generator=generator)


@functools.cache
def _digits():
    from sklearn.datasets import load_digits

    return torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1


def digits(n, generator):
    images = _digits()
    return images[torch.randint(len(images), (n,), generator=generator)]


def pair(data):
    """Generator and discriminator for data from one of the functions above."""
    if data is not digits:
        return mlp(8, 2), mlp(2, 1, activation=leaky)
    normed = functools.partial(nn.Sequential, nn.BatchNorm1d(64), nn.ReLU())
    return nn.Sequential(mlp(8, 64, activation=normed), nn.Tanh()), mlp(64, 1, activation=leaky)


def trainer_for(data, seed, g_lr=1e-3, d_lr=1e-3, betas=(0.0, 0.99), networks=None, **options):
    torch.manual_seed(seed)
    G, D = pair(data) if networks is None else networks()
    options = {"latent": 8, "seed": seed, **options}
    return pygan.GANTrainer(G, D, adam(G, g_lr, betas), adam(D, d_lr, betas), **options)


def strong_discriminator(seed, **options):
    """For the data `far`: a slow generator and a fast discriminator."""
    return trainer_for(far, seed, g_lr=1e-5, d_lr=2e-3, d_steps=3, **options)


HEALTHY = {
    "ring, R1": (ring, {"penalties": R1(0.1)}),
    "ring, minimax, noise": (ring, {"noise": Linear(0.5, 0.05, 500), "loss": "minimax"}),
    "ring, hinge, R1": (ring, {"penalties": R1(1.0), "loss": "hinge"}),
    "digits": (digits, {"d_lr": 2e-4, "betas": (0.5, 0.999)}),
    "digits, least squares": (
        digits,
        {"d_lr": 2e-4, "betas": (0.5, 0.999), "loss": "least_squares"},
    ),
    "digits, R3GAN": (digits, {"penalties": [R1(1.0), R2(1.0)], "loss": "relativistic"}),
}


def train_monitored(trainer, data, seed, steps, batch=64, before_step=None, **options):
    """Train with a monitor; returns (diagnoses, monitor)."""
    generator = torch.Generator().manual_seed(seed)
    monitor = Monitor(trainer, **{"every": EVERY, "window": WINDOW, **options})
    found = []
    for step in range(1, steps + 1):
        if before_step is not None:
            before_step(step)
        batches = [data(batch, generator) for _ in range(trainer.d_steps)]
        stats = trainer.step(batches if trainer.d_steps > 1 else batches[0])
        found += monitor.update(stats)
        if trainer.noise is not None:
            trainer.noise.step(stats.real_sign)
    return found, monitor


def states(diagnoses):
    return [diagnosis.state.value for diagnosis in diagnoses]


def zeros(n, generator):
    return torch.zeros(n, 1)
