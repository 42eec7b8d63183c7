"""A finite difference compares two forward passes of the same function: random states and buffers are replayed, and
afterwards they are as after a single pass."""

import pytest
import torch
from helpers.sync import NoSync
from helpers.trainer import assert_same, networks
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import pygan
from pygan.penalties import R1, R2, GradientPenalty
from pygan.schedules import Constant, DiffusionMixture


class ChangesBuffers(nn.Module):
    """Two buffers like running statistics, on which the output depends: one updated in place, one by assignment."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x):
        self.count += 1.0
        self.mean = self.mean + x.detach().mean(0)
        return x * self.count.clone() + self.mean


LAYERS = {
    "dropout": lambda: nn.Dropout(0.3),
    "noise": lambda: pygan.InstanceNoise(Constant(0.5), seed=3),
    "mixture": lambda: pygan.InstanceNoise(DiffusionMixture(9, t_min=500), seed=3),
    "spectral norm": lambda: spectral_norm(nn.Linear(6, 6)),
    "buffers": ChangesBuffers,
}


def trainer_with(layer, penalties, lr=0.0):
    torch.manual_seed(0)
    G = nn.Linear(4, 6)
    D = nn.Sequential(layer(), nn.Linear(6, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    optimizers = [torch.optim.SGD(net.parameters(), lr=lr) for net in (G, D)]
    return pygan.GANTrainer(G, D, *optimizers, latent=4, seed=1, penalties=penalties)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("side", [R1, R2])
def test_the_finite_difference_estimates_the_exact_penalty(side, name):
    """With dropout, the estimate of 0.064 was 260."""
    values = []
    for sigma in (None, 0.01):
        trainer = trainer_with(LAYERS[name], side(1.0, sigma=sigma))
        torch.manual_seed(2)
        values.append(float(trainer.step(torch.randn(4096, 6)).penalty))
    assert values[1] == pytest.approx(values[0], rel=0.1)


# Not with the layers above, for which it estimates something else.
BATCH_NORM = {"batch norm": lambda: nn.BatchNorm1d(6)}


@pytest.mark.parametrize("name", [*LAYERS, *BATCH_NORM])
def test_additional_passes_do_not_affect_training(name):
    """For any order of the penalties, whose weight of 1e-30 has no effect."""
    layer = (LAYERS | BATCH_NORM)[name]
    with_penalties = trainer_with(
        layer, [R2(1e-30, sigma=0.1), R1(1e-30, sigma=0.1), R1(1e-30, sigma=0.2)], lr=0.1
    )
    without = trainer_with(layer, [], lr=0.1)
    rows, states = [], []
    for trainer in (with_penalties, without):
        torch.manual_seed(2)
        trainer.latent = lambda n: torch.full((n, 4), 0.5)
        rows.append([trainer.step(x)[:-1] for x in torch.randn(3, 8, 6)])
        states.append((torch.get_rng_state(), trainer.discriminator.state_dict()))
    assert_same(*rows)
    assert_same(*states)


def test_other_passes_draw_before_the_compared_ones():
    """The generated samples' pass starts from the random state of R2's pass, wherever another penalty's pass is."""
    for order in (
        [GradientPenalty(), R2(1.0, sigma=0.01)],
        [R2(1.0, sigma=0.01), GradientPenalty()],
    ):
        masks = []
        trainer = trainer_with(LAYERS["dropout"], order)
        trainer.discriminator[0].register_forward_hook(
            lambda _, x, y, masks=masks: masks.append(y == 0)
        )
        trainer.discriminator_step(torch.randn(8, 6) + 3.0)
        real, between, moved, fake = masks
        assert_same(moved, fake)
        assert not torch.equal(real, between)
        assert not torch.equal(between, fake)


def test_buffers_saved_by_autograd_are_not_modified():
    """Such as the kernel of a blur; a write would cause an error in the backward pass."""

    class Blur(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("kernel", torch.rand(6, 6))

        def forward(self, x):
            return x @ self.kernel * self.kernel.sum()

    trainer = trainer_with(Blur, [R1(1.0, sigma=0.1), R2(1.0, sigma=0.1)])
    before = trainer.discriminator[0].kernel._version
    trainer.step(torch.randn(8, 6))
    assert trainer.discriminator[0].kernel._version == before


def test_an_error_in_a_pass_restores_the_random_state():
    trainer = trainer_with(LAYERS["dropout"], R1(1.0, sigma=0.1))
    seen = []

    def fail_at_the_second(module, inputs):
        seen.append(torch.get_rng_state())
        if len(seen) == 2:
            raise KeyError("mine")

    trainer.discriminator[1].register_forward_pre_hook(fail_at_the_second)
    with pytest.raises(KeyError, match="mine"):
        trainer.discriminator_step(torch.randn(8, 6))
    assert_same(torch.get_rng_state(), seen[0])


@pytest.mark.parametrize("name", LAYERS)
def test_replaying_does_not_synchronize(name):
    trainer = trainer_with(LAYERS[name], [R1(1.0, sigma=0.1), R2(1.0, sigma=0.1)])
    with NoSync():
        for _ in range(2):
            trainer.step(torch.randn(8, 6))


def test_a_replaced_discriminator_may_draw():
    """Captured graphs rely on this; only on a GPU can it be detected whether a network drew random numbers."""
    trainer = trainer_with(LAYERS["buffers"], R1(1.0, sigma=0.1))
    trainer._networks.d.draws = False
    trainer.step(torch.randn(8, 6))
    assert trainer._networks.d.draws is False
    trainer.discriminator = nn.Sequential(nn.Dropout(), nn.Linear(6, 1))
    trainer.d_optimizer = torch.optim.SGD(trainer.discriminator.parameters(), lr=0.0)
    trainer.step(torch.randn(8, 6))
    assert trainer._networks.d.draws is None


@pytest.mark.cuda
def test_dropout_on_the_gpu_and_in_a_captured_graph():
    G, D = (net.cuda() for net in networks())
    D = nn.Sequential(nn.Dropout(0.3), D)
    values = []
    for sigma in (None, 0.01):
        optimizers = [torch.optim.SGD(net.parameters(), lr=0.0) for net in (G, D)]
        trainer = pygan.GANTrainer(
            G, D, *optimizers, latent=4, seed=1, penalties=R1(1.0, sigma=sigma)
        )
        torch.manual_seed(2)
        real = torch.randn(4096, 6, device="cuda")
        values.append(float(trainer.step(real).penalty))
    assert values[1] == pytest.approx(values[0], rel=0.1)
    with (
        pytest.raises(RuntimeError, match="GANTrainer: the discriminator of a finite difference"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        trainer.step(real)
