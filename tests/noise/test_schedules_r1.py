"""sigma_for_r1: instance noise and R1 on the Dirac-GAN, compared by the eigenvalues of the gradient flow.

The Dirac-GAN (Mescheder et al. 2018): data at 0, the generator's samples at theta, logits psi * x.
"""

import math

import numpy as np
import pytest
import torch
from helpers import raises

from pygan.fused_losses import discriminator_loss, generator_loss
from pygan.schedules import r1_for_sigma, sigma_for_r1

# E f(z) for z ~ N(0, 1), by Gauss-Hermite quadrature.
NODES, WEIGHTS = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(60))
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def field(theta, psi, loss, sigma=0.0, gamma=0.0):
    """The gradient flow (d theta / dt, d psi / dt) under noise sigma and R1 penalty gamma."""
    real, fake = psi * sigma * NODES, psi * (theta + sigma * NODES)
    real_terms, fake_terms = discriminator_loss(real, fake, loss=loss, reduction="none")
    penalty = 0.5 * gamma * psi**2  # the gradient of the logit with respect to x is psi
    d_loss = (WEIGHTS * (real_terms + fake_terms)).sum() + penalty
    g_loss = (WEIGHTS * generator_loss(fake, loss=loss, reduction="none")).sum()
    (d_theta,) = torch.autograd.grad(g_loss, theta, create_graph=True)
    (d_psi,) = torch.autograd.grad(d_loss, psi, create_graph=True)
    return torch.stack([-d_theta, -d_psi])


def parameters(theta, psi):
    return [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (theta, psi)]


def in_order(value):
    return value.imag, value.real


def eigenvalues(**options):
    """Eigenvalues of the field's Jacobian at the equilibrium, theta = psi = 0."""
    at = parameters(0.0, 0.0)
    flow = field(*at, **options)
    rows = [torch.autograd.grad(flow[i], at, retain_graph=True) for i in range(2)]
    values = torch.linalg.eigvals(torch.tensor([[float(v) for v in row] for row in rows]).double())
    return sorted(values.tolist(), key=in_order)


@pytest.mark.parametrize("loss", ["non_saturating", "minimax"])
@pytest.mark.parametrize("gamma", [0.0, 0.03, 0.4, 0.9, 3.0])  # above 1 nothing oscillates
def test_noise_and_penalty_have_the_same_eigenvalues(gamma, loss):
    under_noise = eigenvalues(loss=loss, sigma=sigma_for_r1(gamma))
    under_r1 = eigenvalues(loss=loss, gamma=gamma)
    assert under_noise == pytest.approx(under_r1, abs=1e-9)
    # Without either it oscillates forever; with either it converges.
    assert all((v.real < -0.01) if gamma else (abs(v.real) < 1e-12) for v in under_noise)


@pytest.mark.parametrize("sigma", [0.2, 1.0, 2.5])
def test_eigenvalues_of_noise_on_the_dirac_gan(sigma):
    """-sigma^2 / 4 +- sqrt(sigma^4 / 16 - 1 / 4)."""
    root = complex(sigma**4 / 16 - 0.25) ** 0.5
    expected = sorted((-(sigma**2) / 4 + s * root for s in (1, -1)), key=in_order)
    assert eigenvalues(loss="non_saturating", sigma=sigma) == pytest.approx(expected, abs=1e-9)


def pull(psi, **options):
    """The decay rate of psi at theta = 0, in addition to that without noise and penalty."""
    with_it, without = (
        field(*parameters(0.0, psi), loss="non_saturating", **o)[1].item() for o in (options, {})
    )
    return without - with_it


def test_limits_of_the_equivalence():
    gamma = 0.5
    sigma = sigma_for_r1(gamma)
    # A confident discriminator: the penalty's pull is proportional to psi, that of noise decreases.
    ratios = [pull(psi, sigma=sigma) / pull(psi, gamma=gamma) for psi in (0.01, 1.0, 4.0, 16.0)]
    assert ratios[0] == pytest.approx(1.0, abs=1e-3)
    assert ratios == sorted(ratios, reverse=True)
    # For large psi, softplus is a ramp: 2 sigma E max(z, 0), compared with gamma psi.
    ramp = 2 * sigma / math.sqrt(2 * math.pi) / (gamma * 16)
    assert ratios[-1] == pytest.approx(ramp, rel=0.05)
    # For a loss that is linear at the equilibrium, noise has no effect there, but the penalty has.
    for loss in ("hinge", "wasserstein"):
        assert all(abs(v.real) < 1e-12 for v in eigenvalues(loss=loss, sigma=0.1))
        assert all(v.real < -1e-3 for v in eigenvalues(loss=loss, gamma=r1_for_sigma(0.1)))


def test_conversions_are_inverse():
    for value in np.random.default_rng(0).uniform(0, 10, 20):
        assert r1_for_sigma(sigma_for_r1(value)) == pytest.approx(value)
        assert sigma_for_r1(r1_for_sigma(value)) == pytest.approx(value)
    assert sigma_for_r1(0) == r1_for_sigma(0) == 0.0


@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan, True, "1"])
def test_invalid_arguments_are_refused(value):
    message = "must be a finite non-negative number, got"
    with raises(ValueError, f"sigma_for_r1: gamma {message} {value!r}"):
        sigma_for_r1(value)
    with raises(ValueError, f"r1_for_sigma: sigma {message} {value!r}"):
        r1_for_sigma(value)
