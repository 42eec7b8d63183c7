"""DiffusionMixture: the levels of the paper, their distribution, and InstanceNoise with a sigma per sample."""

import copy

import numpy as np
import pytest
import torch
from helpers import raises
from helpers.compile import one_graph
from helpers.schedules import count_compilations
from helpers.sync import NoSync

import pygan
from pygan.schedules import Constant, DiffusionMixture

DISTRIBUTIONS = ["uniform", "priority"]


def mixture(T, t_max=40, **options):
    """A mixture of small levels with the given T."""
    schedule = DiffusionMixture(t_max - 1, t_min=1, t_max=t_max, **options)
    for _ in range(T - 1):
        schedule.step(torch.tensor(1.0))
    assert schedule.T == T
    return schedule


def probabilities(schedule):
    """P(t) for t = 0 ... T as in the paper: Discrete(1, ..., 1) or Discrete(1, 2, ..., T), normalized."""
    t = np.arange(1, schedule.T.item() + 1, dtype=np.float64)
    weights = t if schedule.distribution == "priority" else np.ones_like(t)
    return np.append(schedule.clean, (1 - schedule.clean) * weights / weights.sum())


def levels_of(schedule, sigma):
    """t of each sigma."""
    t = torch.searchsorted(schedule.levels, sigma)
    assert torch.equal(schedule.levels[t], sigma)
    return t


def test_levels_match_the_diffusion():
    """x + sigma_t z is sqrt(abar_t) x + sqrt(1 - abar_t) noise_std z, divided by sqrt(abar_t)."""
    beta_start, beta_end, t_max, noise_std = 1e-3, 3e-2, 300, 0.2
    schedule = DiffusionMixture(
        5, t_max=t_max, beta_start=beta_start, beta_end=beta_end, noise_std=noise_std
    )
    abar = np.cumprod(1 - np.linspace(beta_start, beta_end, t_max))
    x, z = np.random.default_rng(0).standard_normal((2, t_max))
    diffused = np.sqrt(abar) * x + np.sqrt(1 - abar) * noise_std * z
    np.testing.assert_allclose(
        np.sqrt(abar) * (x + schedule.levels[1:].double().numpy() * z), diffused, rtol=1e-5
    )
    assert schedule.levels[0] == 0.0
    assert schedule.levels.dtype == torch.float32
    # The values in the docstring.
    levels = DiffusionMixture(5).levels
    assert levels[[500, 700, 1000]].tolist() == pytest.approx([0.17, 0.60, 7.9], rel=0.01)


def test_the_set_of_levels_follows_the_rule():
    schedule = DiffusionMixture(20, t_min=10, t_max=60)  # 2.5 levels per step
    T = 10.0
    for sign in [0.7] * 13 + [0.5] * 4 + [0.61] * 20 + [-1.0] * 30:
        assert schedule.T.item() == round(T)
        assert torch.equal(schedule.sigma, schedule.levels[round(T)])
        schedule.step(torch.tensor(sign))
        T = min(max(T + np.sign(sign - 0.6) * (60 - 10) / 20, 10.0), 60.0)
    assert T == 10.0


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize(("T", "clean"), [(1, 0.5), (7, 0.0), (39, 0.3), (40, 0.5)])
def test_level_frequencies(T, clean, distribution):
    schedule = mixture(T, distribution=distribution, clean=clean)
    n, expected = 200_000, probabilities(schedule)
    sigma = schedule.draw(torch.empty(n, 1), pygan.NoiseStream(T))
    assert sigma.shape == (n,) and sigma.dtype == torch.float32
    counts = np.bincount(levels_of(schedule, sigma), minlength=T + 1)
    assert len(counts) == T + 1 and counts.sum() == n
    # Within five standard deviations of a binomial count; exactly 0 for impossible levels.
    assert np.all(np.abs(counts - n * expected) <= 5 * np.sqrt(n * expected * (1 - expected)))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_draws_are_a_function_of_the_stream(distribution):
    """By definition, from the reference's normals: u = a / (a + b), then the inverse distribution function."""
    schedule = mixture(12, distribution=distribution)
    n, seed, step = 300, 2**64 - 3, 11
    z = pygan.reference.instance_noise(
        torch.zeros(n, 4), 1.0, seed=seed, step=step, offset=2**62
    ).double()
    u = z[:, :2].square().sum(1) / z.square().sum(1)
    expected = np.searchsorted(np.cumsum(probabilities(schedule)), u.numpy())
    stream = pygan.NoiseStream(seed, step=step)
    sigma = schedule.draw(torch.empty(n, 3), stream)
    assert torch.equal(levels_of(schedule, sigma), torch.from_numpy(expected))
    assert stream.step == step


def test_each_sample_gets_its_own_noise():
    schedule = mixture(40, noise_std=0.5)
    noise, x = pygan.InstanceNoise(schedule, seed=6), torch.randn(12, 3, 5)
    sigma = schedule.draw(x, pygan.NoiseStream(6))
    expected = pygan.reference.instance_noise(x, sigma, seed=6, step=0)
    torch.testing.assert_close(noise(x), expected, rtol=1e-6, atol=2e-6)
    assert noise.stream.step == 1


def test_moments_of_the_mixture():
    """From a user's perspective: clean samples are unchanged, and the others have different standard deviations."""
    noise = pygan.InstanceNoise(mixture(40, clean=0.4), seed=8)
    n = 20_000
    added = noise(torch.zeros(64, n))
    sigma, clean = added.std(1), (added == 0).all(1)
    assert 0 < clean.sum() < 64
    t = levels_of(noise.schedule, noise.schedule.draw(added, pygan.NoiseStream(8)))
    assert torch.equal(clean, t == 0)
    assert len(t.unique()) > 10
    # The standard deviation of an estimated one is sigma / sqrt(2 n).
    truth = noise.schedule.levels[t]
    assert ((sigma - truth).abs() <= 5 * truth / (2 * n) ** 0.5).all()


def test_real_and_fake_levels_are_independent():
    noise = pygan.InstanceNoise(mixture(40, clean=0.0), seed=2)
    x = torch.zeros(50, 400)
    real, fake = noise(x), noise(x)
    sigmas = torch.stack([real.std(1), fake.std(1)])
    for pair in (sigmas, torch.stack([real.flatten(), fake.flatten()])):
        pair = pair[:, pair.abs().sum(0) > 0]
        correlation = torch.corrcoef(pair)[0, 1]
        assert abs(correlation) < 4 / pair.shape[1] ** 0.5
    # The level of a sample is also independent of its noise.
    z = real[:, :1] / noise.schedule.draw(x, pygan.NoiseStream(2))[:, None]
    assert abs(torch.corrcoef(torch.stack([sigmas[0], z[:, 0]]))[0, 1]) < 4 / 50**0.5


def test_parts_of_a_batch_draw_the_same_levels():
    schedule, x = mixture(40), torch.zeros(10, 6)
    whole = schedule.draw(x, pygan.NoiseStream(4))
    part = schedule.draw(x[7:], pygan.NoiseStream(4, offset=7 * 6))
    assert torch.equal(part, whole[7:])


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (5,)])
def test_empty_and_flat_batches(shape):
    noise = pygan.InstanceNoise(mixture(5), seed=1)
    assert noise(torch.zeros(shape)).shape == shape
    assert noise.schedule.draw(torch.zeros(shape), noise.stream).shape == shape[:1]


def test_eval_is_the_identity():
    noise = pygan.InstanceNoise(mixture(5), seed=1).eval()
    x = torch.randn(4)
    assert noise(x) is x
    assert noise.stream.step == 0


def test_manual_seed_reproduces_an_unseeded_module():
    x, outs = torch.zeros(30, 2), []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        outs.append(pygan.InstanceNoise(mixture(40, clean=0.0))(x))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


def test_resuming_is_bitwise_exact(tmp_path):
    x, noise = torch.zeros(9, 2), pygan.InstanceNoise(mixture(3), seed=3)
    for _ in range(20):
        noise(x)
        noise.step(torch.tensor(0.9))
    torch.save(noise.state_dict(), tmp_path / "noise.pt")
    resumed = pygan.InstanceNoise(mixture(1), seed=99)
    resumed.load_state_dict(torch.load(tmp_path / "noise.pt", weights_only=True))
    assert resumed.schedule.T == noise.schedule.T == 23
    for _ in range(3):
        assert torch.equal(resumed.sigma, noise.sigma)
        assert torch.equal(resumed(x), noise(x))
        resumed.step(torch.tensor(0.3))
        noise.step(torch.tensor(0.3))


def test_new_limits_apply_on_resume():
    resumed = mixture(2, t_max=9)
    resumed.load_state_dict(mixture(40).state_dict())
    assert resumed.T == 9
    assert resumed.sigma == resumed.levels[9]


@one_graph
@pytest.mark.parametrize("backend", ["counting", "aot_eager"])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_compiled_once_while_the_set_grows(distribution, backend, fresh):
    noise, twin = (
        pygan.InstanceNoise(mixture(2, distribution=distribution), seed=1) for _ in range(2)
    )
    function, compiled = count_compilations(noise)
    if backend == "aot_eager":
        function, compiled = torch.compile(noise, fullgraph=True, backend=backend), None
    x = torch.randn(20, 5)
    for _ in range(6):
        assert torch.equal(function(x), twin(x))
        for module in (noise, twin):
            module.step(torch.tensor(1.0))
    assert noise.stream.step == 6
    assert noise.schedule.T == 8
    assert compiled is None or len(compiled) == 1


def test_nothing_is_read_from_the_device():
    noise = pygan.InstanceNoise(mixture(5), seed=1)
    sigma = noise.sigma
    with NoSync():
        noise(torch.zeros(4, 2))
        noise.step(torch.tensor(0.9))
    assert noise.sigma is sigma
    noise.to("meta")  # a device without values
    assert noise(torch.empty(4, 2, device="meta")).shape == (4, 2)
    noise.step(torch.empty((), device="meta"))


def test_half_does_not_change_the_schedule():
    noise, x = pygan.InstanceNoise(mixture(33), seed=1), torch.zeros(50, 2)
    before = copy.deepcopy(noise)(x)
    noise.half()
    assert {b.dtype for b in noise.buffers()} == {torch.float32, torch.float64}
    assert torch.equal(noise(x), before)


def test_an_invalid_batch_does_not_advance_the_stream():
    noise = pygan.InstanceNoise(mixture(5), seed=1)
    with raises(ValueError, "DiffusionMixture: x must be a batch (N, ...), got a 0-d tensor"):
        noise(torch.tensor(1.0))
    with pytest.raises(TypeError, match="x must be"):
        noise(torch.zeros(4, 2, dtype=torch.int64))
    assert noise.stream.step == 0
    with raises(ValueError, "DiffusionMixture: x must be on the schedule's device, cpu, got meta"):
        noise.schedule.draw(torch.empty(4, device="meta"), noise.stream)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be an int of at least 1, got 0"),
        ({"t_min": 0}, "t_min must be an int of at least 1, got 0"),
        ({"t_max": 10}, "t_max must be greater than t_min, 10, got 10"),
        ({"beta_start": 0.0}, "beta_start must be a number between 0 and 1, got 0.0"),
        ({"beta_end": 1}, "beta_end must be a number between 0 and 1, got 1"),
        ({"noise_std": 0.0}, "noise_std must be positive, got 0.0"),
        ({"noise_std": -1}, "noise_std must be a finite non-negative number, got -1"),
        ({"clean": 1.0}, "clean must be a number from 0 to below 1, got 1.0"),
        ({"distribution": "even"}, "distribution must be 'priority' or 'uniform', got 'even'"),
        ({"beta_end": 0.9}, "t_max and the betas must leave some signal, got levels that overflow"),
        ({"target": None}, "target must be a number between -1 and 1, a mean sign, got None"),
    ],
)
def test_invalid_arguments_are_refused(options, message):
    with raises(ValueError, "DiffusionMixture: " + message):
        DiffusionMixture(**{"steps": 5, **options})


def test_other_schedules_draw_one_sigma_for_all():
    schedule = Constant(0.5)
    assert schedule.draw(torch.zeros(3), pygan.NoiseStream(1)) is schedule.sigma


@pytest.mark.cuda
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_gpu_draws_the_same_levels_without_synchronization(distribution):
    noise, twin = (
        pygan.InstanceNoise(DiffusionMixture(9, distribution=distribution), seed=1)
        for _ in range(2)
    )
    noise.cuda()
    x, sign = torch.randn(3000, 3), torch.tensor(0.9)
    x_on_gpu, sign_on_gpu = x.cuda(), sign.cuda()
    outs = []
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(9):
            outs.append(noise(x_on_gpu))
            noise.step(sign_on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for out in outs:
        assert torch.equal(out.cpu(), twin(x))
        twin.step(sign)
