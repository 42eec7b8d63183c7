"""GANTrainer on the Dirac-GAN: the dynamics that instance noise stabilizes."""

import math

import pytest
import torch
from helpers.trainer import dirac

import pygan
from pygan.penalties import R1
from pygan.schedules import Constant


def dirac_radius(sigma, *, time, learning_rate, samples, penalties=()):
    """Distance of (theta, psi) to the equilibrium (0, 0) before and after training, with data at 0 and D(x) = psi x."""
    trainer = dirac(
        "minimax",  # the loss whose orbit is closed; the other one decays, but only cubically
        learning_rate,
        theta=0.4,
        noise=pygan.InstanceNoise(Constant(sigma), seed=0),
        penalties=penalties,
    )
    generator, discriminator = trainer.generator, trainer.discriminator

    def radius():
        return math.hypot(generator.theta.item(), discriminator.weight.item())

    start = radius()
    real = torch.zeros(samples, 1)
    for _ in range(round(time / learning_rate)):
        trainer.step(real)
    return start, radius()


def test_dirac_gan_orbits_without_noise():
    start, end = dirac_radius(0.0, time=20, learning_rate=0.05, samples=2)
    assert end == pytest.approx(start, rel=0.05)


def test_dirac_gan_converges_with_instance_noise_at_the_predicted_rate():
    """The linearized dynamics have the eigenvalues -s^2/4 ± sqrt(s^4/16 - 1/4): the radius decays as exp(-s^2 t / 4).
    Measured over half a rotation of the imaginary part, after which the phase is the same."""
    sigma = 1.0
    half_turn = math.pi / math.sqrt(1 / 4 - sigma**4 / 16)
    start, end = dirac_radius(sigma, time=half_turn, learning_rate=0.04, samples=4096)
    assert end / start == pytest.approx(math.exp(-(sigma**2) / 4 * half_turn), rel=0.1)


@pytest.mark.parametrize("approximate", [None, 0.1])
def test_dirac_gan_converges_with_r1_at_the_predicted_rate(approximate):
    """Eigenvalues -g/2 ± sqrt(g^2/4 - 1/4): those of noise with s^2 = 2 g. For the finite difference, on average."""
    gamma = 0.5
    half_turn = math.pi / math.sqrt(1 / 4 - gamma**2 / 4)
    penalty = R1(gamma, sigma=approximate)
    samples = 2 if approximate is None else 4096
    start, end = dirac_radius(
        0.0, time=half_turn, learning_rate=0.04, samples=samples, penalties=penalty
    )
    assert end / start == pytest.approx(math.exp(-gamma / 2 * half_turn), rel=0.1)
