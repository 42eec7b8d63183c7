"""pygan.divergences against closed forms, torch's functions, exact theoretical values, and each method against the
others."""

import math

import pytest
import torch
from helpers import raises
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    Uniform,
)

from pygan import divergences as dv
from pygan import fused_losses

X = torch.linspace(-12, 12, 6001, dtype=torch.float64)  # range in which no density underflows
DX = (X[1] - X[0]).item()
EVERY = [dv.kl, dv.reverse_kl, dv.jsd, dv.total_variation]
means = st.floats(-2, 2)
scales = st.floats(0.4, 1.5)


def normal(mean, scale):
    return Normal(torch.tensor(mean, dtype=torch.float64), torch.tensor(scale, dtype=torch.float64))


def mixture(*modes):
    """A mixture of components (weight, mean, scale)."""
    w, m, s = torch.tensor(modes, dtype=torch.float64).T
    return MixtureSameFamily(Categorical(w), Normal(m, s))


def density(distribution, x=X):
    return distribution.log_prob(x).exp()


def on_grid(divergence, p, q):
    return divergence(density(p), density(q), dx=DX)


@pytest.mark.parametrize(
    ("sigma", "value"), [(0.05, 0.693), (0.25, 0.633), (0.5, 0.337), (2, 0.030)]
)
def test_jsd_of_two_separated_gaussians(sigma, value):
    """Exact values for instance noise: there is an optimal sigma."""
    p, q = normal(0.0, sigma), normal(1.0, sigma)
    assert on_grid(dv.jsd, p, q).item() == pytest.approx(value, abs=5e-4)
    estimate = dv.jsd(p, q)
    assert abs(estimate.value - on_grid(dv.jsd, p, q)) < 5 * estimate.standard_error + 1e-9


@given(means, means, scales, scales)
@settings(deadline=None, max_examples=40)
def test_gaussians(m, n, s, t):
    """Closed forms against the grid; theoretical identities and inequalities."""
    p, q = normal(m, s), normal(n, t)
    values = {f: on_grid(f, p, q) for f in EVERY}
    torch.testing.assert_close(dv.kl(p, q).value, torch.distributions.kl_divergence(p, q))
    for divergence in (dv.kl, dv.reverse_kl, dv.total_variation):
        exact = divergence(p, q)
        assert exact.standard_error == 0
        torch.testing.assert_close(exact.value, values[divergence], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(values[dv.reverse_kl], on_grid(dv.kl, q, p))
    torch.testing.assert_close(values[dv.jsd], on_grid(dv.jsd, q, p))
    tv, js = values[dv.total_variation], values[dv.jsd]
    assert -1e-9 <= js <= math.log(2) * tv + 1e-9  # Lin 1991, theorem 3
    assert tv**2 / 2 <= js + 1e-9  # Pinsker, for the halves
    assert 2 * tv**2 <= values[dv.kl] + 1e-9
    # The value of the game at the optimal discriminator; it is less for others.
    best = dv.optimal_discriminator(density(p), density(q))
    value = dv.value_function(best, density(p), density(q), dx=DX)
    torch.testing.assert_close(value, 2 * js - 2 * math.log(2), rtol=0, atol=1e-9)
    other = dv.value_function(best + 0.3 * torch.sin(X), density(p), density(q), dx=DX)
    assert other < value


@pytest.mark.parametrize("divergence", EVERY)
def test_estimates_of_mixtures(divergence):
    """Monte Carlo against the grid: 30 estimates, whose errors agree with their standard errors."""
    torch.manual_seed(0)
    p, q = mixture((0.3, -1, 0.3), (0.7, 1, 0.6)), normal(0.5, 1.2)
    exact = on_grid(divergence, p, q)
    errors = torch.tensor(
        [
            (e.value - exact) / e.standard_error
            for e in (divergence(p, q, samples=4000) for _ in range(30))
        ]
    )
    assert errors.abs().max() < 4.5
    assert 0.6 < errors.std() < 1.5


@pytest.mark.parametrize("divergence", EVERY)
@pytest.mark.parametrize("reparametrised", [True, False])
def test_gradients_of_estimates(divergence, reparametrised):
    """With respect to both means, through the samples or by the score function, against the grid."""
    torch.manual_seed(0)
    location = torch.tensor([0.2, -0.4], dtype=torch.float64, requires_grad=True)

    def both(location):
        one = [normal(0.0, 0.7), normal(0.0, 0.9)]
        if reparametrised:  # without torch's closed forms
            return [
                Independent(Normal((x + d.loc)[None], d.scale[None]), 1)
                for x, d in zip(location, one)
            ]
        weights = torch.tensor([0.4, 0.6], dtype=torch.float64)
        steps = torch.tensor([-0.5, 0.5], dtype=torch.float64)
        return [
            MixtureSameFamily(Categorical(weights), Normal(x + steps, d.scale.expand(2)))
            for x, d in zip(location, one)
        ]

    p, q = both(location)
    assert p.has_rsample == reparametrised
    x = X[:, None] if reparametrised else X
    (want,) = torch.autograd.grad(divergence(density(p, x), density(q, x), dx=DX), location)
    found = torch.stack(
        [
            torch.autograd.grad(divergence(*both(location), samples=4000).value, location)[0]
            for _ in range(40)
        ]
    )
    error = found.std(0) / 40**0.5
    assert ((found.mean(0) - want).abs() < 5 * error + 1e-9).all()


def test_grid_gradients():
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.rand(2, 6, generator=generator, dtype=torch.float64) + 0.1 for _ in range(2))
    p, q = p.requires_grad_(), q.requires_grad_()
    for divergence in EVERY:
        torch.autograd.gradcheck(divergence, (p, q))


def test_densities_with_zeros():
    p = torch.tensor([0.5, 0.5, 0.0, 0.0], requires_grad=True)
    q = torch.tensor([0.0, 0.0, 0.5, 0.5])
    assert dv.kl(p, q) == dv.reverse_kl(p, q) == math.inf
    assert dv.jsd(p, q).item() == pytest.approx(math.log(2))
    assert dv.total_variation(p, q) == 1
    half = torch.tensor([1.0, 0.0, 0.0, 0.0])
    assert dv.reverse_kl(p, half).item() == pytest.approx(math.log(2))
    assert dv.kl(p, half) == math.inf
    (gradient,) = torch.autograd.grad(dv.kl(p, torch.tensor([0.25, 0.75, 0, 0])), p)
    assert gradient.isfinite().all()
    assert dv.optimal_discriminator(p, q).tolist() == [math.inf, math.inf, -math.inf, -math.inf]
    assert dv.optimal_discriminator(p, p).tolist() == [0, 0, 0, 0]


def test_bounds_hold_for_any_discriminator_and_are_tight_for_the_best():
    torch.manual_seed(0)
    p, q = normal(0.0, 0.8), normal(1.0, 1.0)
    exact = {f.__name__: on_grid(f, p, q).item() for f in EVERY}
    x, y = p.sample((200_000,)), q.sample((200_000,))
    best = dv.optimal_discriminator(p, q)
    tight = dv.lower_bounds(best(x), best(y))._asdict()
    for name, bound in tight.items():
        assert abs(bound.value - exact[name]) < 5 * bound.standard_error
        for worse in (lambda u: 0.5 * u, lambda u: u + 0.7, lambda u: torch.sin(3 * u)):
            bound = getattr(dv.lower_bounds(worse(best(x)), worse(best(y))), name)
            assert bound.value < exact[name] + 5 * bound.standard_error
    # The statistics of the fused loss give the same values.
    loss, stats = fused_losses.discriminator_loss(best(x), best(y), return_stats=True)
    torch.testing.assert_close(tight["jsd"].value.float(), stats.jsd_bound.float())
    estimate = dv.value_function(lambda x: best(x)[:, None], p, q)
    assert abs(estimate.value + loss) < 0.02


def test_multivariate():
    torch.manual_seed(0)
    p = MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.3], [0.3, 0.5]]))
    q = MultivariateNormal(torch.ones(2), torch.eye(2))
    assert dv.kl(p, q) == (torch.distributions.kl_divergence(p, q), 0)
    estimate, js = dv.total_variation(p, q), dv.jsd(p, q)
    x = torch.stack(torch.meshgrid(*[torch.linspace(-6, 7, 500)] * 2, indexing="ij"), -1)
    dx = (13 / 499) ** 2
    for divergence, found in ((dv.total_variation, estimate), (dv.jsd, js)):
        want = divergence(density(p, x), density(q, x), dx=dx)
        assert abs(found.value - want) < 5 * found.standard_error


def test_equal_scales_have_a_gradient():
    for s, t in ((1.0, 1.0), (1.0, 1.001)):
        scale = torch.tensor([s, t], dtype=torch.float64, requires_grad=True)
        value = dv.total_variation(Normal(0.0, scale[0]), Normal(1.0, scale[1])).value
        (gradient,) = torch.autograd.grad(value, scale)
        torch.testing.assert_close(gradient, torch.full_like(scale, -0.1760), atol=1e-3, rtol=0)


P = torch.full((4,), 0.25)
BAD = [
    (
        lambda: dv.kl(P, [1.0]),
        TypeError,
        "divergences.kl: q must be a floating-point tensor",
        "got list",
    ),
    (
        lambda: dv.jsd(P.long(), P),
        TypeError,
        "divergences.jsd: p must be a floating-point tensor",
        "got torch.int64",
    ),
    (
        lambda: dv.kl(-P, P),
        ValueError,
        "divergences.kl: p must be a non-negative density, got -0.25",
    ),
    (
        lambda: dv.kl(P, P[:3]),
        ValueError,
        "divergences.kl: both densities must be on the same grid, got shapes (4,) and (3,)",
    ),
    (
        lambda: dv.jsd(normal(0.0, 1.0), P),
        TypeError,
        "divergences.jsd: q must be a torch Distribution",
    ),
    (
        lambda: dv.jsd(P, normal(0.0, 1.0)),
        TypeError,
        "divergences.jsd: q must be a floating-point tensor",
    ),
    (
        lambda: dv.jsd(Normal(torch.zeros(2), 1.0), Uniform(0.0, 1.0)),
        ValueError,
        "divergences.jsd: p and q must be of the same events, without a batch shape",
    ),
    (
        lambda: dv.jsd(normal(0.0, 1.0), normal(0.0, 1.0), samples=1),
        ValueError,
        "divergences.jsd: samples must be an int of",
    ),
    *(
        (
            lambda dx=dx: dv.kl(P, P, dx=dx),
            ValueError,
            f"divergences.kl: dx must be a positive and finite number, or None, got {dx!r}",
        )
        for dx in (-0.01, 0, math.nan, math.inf, "0.01", True)
    ),
    (
        lambda: dv.value_function(P, P, P, dx=-1.0),
        ValueError,
        "divergences.value_function: dx must be a positive",
    ),
    (
        lambda: dv.reverse_kl(P, P, samples=100),
        ValueError,
        "divergences.reverse_kl: samples must be None for densities on a grid, got 100",
    ),
    (
        lambda: dv.total_variation(normal(0.0, 1.0), normal(0.0, 2.0), dx=0.01),
        ValueError,
        "divergences.total_variation: dx must be None for distributions, which have no grid, got 0.01",
    ),
    (
        lambda: dv.lower_bounds(P[:1], P),
        ValueError,
        "divergences.lower_bounds: real_logits must be",
    ),
    (
        lambda: dv.value_function(P[:2], P, P),
        ValueError,
        "divergences.value_function: both densities must be on",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), [(c, e, m) for c, e, *m in BAD])
def test_invalid_arguments_are_refused(call, error, message):
    with raises(error, *message):
        call()
