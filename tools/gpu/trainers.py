"""Small networks and trainers for the checks, and the options that they use."""

import copy

import torch
from registry import session
from torch import nn

import pygan

OPTIONS = {
    "plain": {},
    "noise": {"noise": 0.1},
    "ema": {"ema": 0.99},
    "clip": {"max_grad_norm": 1.0},
    "R1": {"penalties": pygan.penalties.R1(1.0)},
    "R1 sigma": {"penalties": pygan.penalties.R1(1.0, sigma=0.01)},
    "GP": {"penalties": pygan.penalties.GradientPenalty()},
    "micro": {"micro_batches": 3},
    "relativistic": {"loss": "relativistic"},
    "relativistic_average": {"loss": "relativistic_average"},
    "mixture": {"noise": pygan.schedules.DiffusionMixture(9)},
}


def fresh(options):
    """Copy the options, because penalties and schedules have a state."""
    return copy.deepcopy(options)


def networks(device=None):
    """The same generator and discriminator each time."""
    torch.manual_seed(0)
    # No bias before BatchNorm: its gradient is only rounding error, which Adam scales up to full steps.
    generator = nn.Sequential(
        nn.Linear(16, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 8)
    )
    return generator.to(device or session.device), discriminator().to(device or session.device)


def discriminator():
    # No bias at the end either: relativistic losses do not depend on an offset of D.
    return nn.Sequential(nn.Linear(8, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1, bias=False))


def adam(parameters, **options):
    return torch.optim.Adam(parameters, lr=1e-3, betas=(0.5, 0.99), **options)


def trainer_of(device=None, optimizer=adam, **options):
    G, D = networks(device)
    optimizers = optimizer(G.parameters()), optimizer(D.parameters())
    return pygan.GANTrainer(G, D, *optimizers, **{"latent": 16, "seed": 7, **options})


def parameters_of(trainer):
    return [*trainer.generator.parameters(), *trainer.discriminator.parameters()]
