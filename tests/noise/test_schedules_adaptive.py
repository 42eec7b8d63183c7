"""Adaptive: ADA's rule, its state, and its control of the discriminator."""

import copy
import math

import pytest
import torch
from helpers import raises
from helpers.compile import one_graph
from helpers.schedules import count_compilations
from helpers.sync import NoSync
from helpers.trainer import setup

import pygan
from pygan.schedules import Adaptive


def signs(count, seed=0):
    """Realistic measures: mean signs of a few logits around the target."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(9, generator=generator).add(0.8).sign().mean() for _ in range(count)]


def test_the_rule_matches_the_paper():
    """p += sign(r_t - target) * (batch * interval) / (kimg * 1000), clamped to [0, 1]."""
    batch, interval, kimg, target = 64, 2, 16, 0.45
    schedule = Adaptive(0.0, 1.0, steps=125, target=target)  # 16,000 images / (64 * 2)
    p, seen = 0.0, set()
    for r in signs(400):
        schedule.step(r)
        p += math.copysign(1.0, r.item() - target) * (batch * interval) / (kimg * 1000)
        p = min(max(p, 0.0), 1.0)
        seen.add(round(p, 9))
        assert schedule.position.item() == pytest.approx(p, abs=1e-12)
        assert torch.equal(schedule.sigma, schedule.position.float())
    assert len(seen) > 20


def test_limits_are_reached_exactly_and_kept():
    low, high, steps = 0.1, 0.7, 7
    schedule = Adaptive(low, high, steps)
    assert schedule.sigma == torch.tensor(low)
    values = []
    for _ in range(steps + 2):
        schedule.step(torch.tensor(1.0))
        values.append(schedule.sigma.item())
    expected = [low + (high - low) * min(k, steps) / steps for k in range(1, steps + 3)]
    assert values == pytest.approx(expected)
    assert schedule.sigma == torch.tensor(high)
    for _ in range(steps + 2):
        schedule.step(torch.tensor(-0.2))
    assert schedule.sigma == torch.tensor(low)
    assert schedule.count == 2 * (steps + 2)


@pytest.mark.parametrize("sign", [0.5, math.nan])
def test_sigma_does_not_change_at_the_target_or_for_nan(sign):
    schedule = Adaptive(0.0, 1.0, 10, start=0.3, target=0.5)
    schedule.step(torch.tensor(sign))
    assert schedule.sigma == torch.tensor(0.3)


def test_small_steps_add_up():
    """Steps below sigma's float32 resolution: in float32, 0.5 + 1e-8 is 0.5."""
    schedule = Adaptive(0.0, 1.0, steps=10**8, start=0.5)
    for _ in range(200):
        schedule.step(torch.tensor(1.0))
    assert schedule.position.item() == pytest.approx(0.5 + 200e-8, abs=1e-13)
    assert schedule.sigma > 0.5


@pytest.mark.parametrize("start", [0.0, 2.0])
def test_the_discriminator_is_kept_at_the_target(start):
    """A model of overfitting: real logits are N(mean(sigma), 1), and noise lowers the mean."""

    def mean(sigma):
        return 2.0 / (1.0 + sigma * sigma)

    def expected_sign(sigma):  # of N(m, 1): 2 Phi(m) - 1
        return torch.erf(mean(sigma) / math.sqrt(2.0))

    batch, steps = 256, 400
    generator = torch.Generator().manual_seed(int(start) + 1)
    schedule = Adaptive(0.0, 2.0, steps, start=start)
    for i in range(2 * steps):
        sigma = schedule.sigma.clone()
        sign = torch.randn(batch, generator=generator).add(mean(sigma)).sign().mean()
        schedule.step(sign)
        if i < 100:  # far from the equilibrium: monotonically towards it
            assert (schedule.sigma > sigma) if start == 0.0 else (schedule.sigma < sigma)
    # Now a batch cannot distinguish it from the target: within two standard deviations of a mean of signs.
    error = 2 * math.sqrt((1 - schedule.target**2) / batch)
    assert abs(expected_sign(schedule.sigma) - schedule.target) < error


def test_works_with_the_statistics_of_the_losses():
    schedule, fake = Adaptive(0.0, 1.0, 10, start=0.5), torch.randn(64)
    for shift, expected in ((3.0, 0.6), (3.0, 0.7), (0.0, 0.6)):
        real = torch.randn(64) + shift
        _, stats = pygan.fused_losses.discriminator_loss(real, fake, return_stats=True)
        schedule.step(stats.real_sign)
        assert schedule.sigma.item() == pytest.approx(expected)


def test_works_with_the_statistics_of_the_trainer():
    noise = pygan.InstanceNoise(Adaptive(0.0, 1.0, 100, start=0.5), seed=1)
    trainer, real = setup(noise=noise), torch.randn(16, 6)
    for _ in range(3):
        before = noise.sigma.item()
        stats = trainer.step(real)
        noise.step(stats.real_sign)
        moved = math.copysign(0.01, stats.real_sign.item() - 0.6)
        assert noise.sigma.item() == pytest.approx(before + moved)


def test_step_does_not_synchronize():
    schedule = Adaptive(0.0, 1.0, 10)
    sigma, position = schedule.sigma, schedule.position
    with NoSync():
        schedule.step(torch.tensor(0.9))
    # In place, as captured graphs require.
    assert schedule.sigma is sigma and schedule.position is position
    schedule.to("meta")  # a device without values
    schedule.step(torch.empty((), device="meta"))


@one_graph
def test_compiled_once_while_sigma_adapts():
    noise, twin = (pygan.InstanceNoise(Adaptive(0.0, 1.0, 9), seed=1) for _ in range(2))
    function, compiled = count_compilations(noise)
    x = torch.randn(4, 5)
    for r in signs(5):
        assert torch.equal(function(x), twin(x))
        noise.step(r)
        twin.step(r)
    assert len(compiled) == 1


def test_no_autograd_graph_is_kept():
    schedule = Adaptive(0.0, 1.0, 10)
    logits = torch.randn(8, requires_grad=True)
    schedule.step(logits.tanh().mean())
    assert not schedule.position.requires_grad and not schedule.sigma.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_dtype_changes_do_not_affect_the_state(dtype):
    noise = pygan.InstanceNoise(Adaptive(0.0, 1.0, 3))
    noise.step(torch.tensor(1.0))
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), noise).to(dtype)
    assert module[0].weight.dtype == dtype
    assert noise.sigma.dtype == torch.float32 and noise.schedule.position.dtype == torch.float64
    assert noise.schedule.position == 1 / 3
    assert noise.sigma == torch.tensor(1 / 3)


def test_resuming_is_bitwise_exact(tmp_path):
    schedule = Adaptive(0.0, 0.7, 90, start=0.3, target=0.5)
    resumed = Adaptive(0.0, 0.7, 90, target=0.5)
    measures = signs(60, seed=5)
    for r in measures[:40]:
        schedule.step(r)
    torch.save(schedule.state_dict(), tmp_path / "schedule.pt")
    sigma = resumed.sigma
    resumed.load_state_dict(torch.load(tmp_path / "schedule.pt", weights_only=True))
    assert resumed.sigma is sigma
    assert 0.0 < sigma < 0.7
    for r in measures[40:]:
        assert torch.equal(resumed.sigma, schedule.sigma)
        assert torch.equal(resumed.position, schedule.position)
        schedule.step(r)
        resumed.step(r)
    assert resumed.count == schedule.count == 60


def test_new_limits_apply_on_resume():
    schedule, resumed = Adaptive(0.0, 1.0, 10, start=0.9), Adaptive(0.0, 0.5, 10)
    resumed.load_state_dict(schedule.state_dict())
    assert resumed.sigma == 0.5
    assert schedule.sigma == torch.tensor(0.9)


STEP = (
    "Adaptive.step: real_sign must be the mean sign of the real logits, a 0-d floating-point tensor"
)


@pytest.mark.parametrize(
    ("sign", "error", "message", "got"),
    [
        (None, TypeError, STEP, "got NoneType"),
        (0.7, TypeError, STEP, "got float"),
        (torch.tensor(1), TypeError, STEP, "got torch.int64"),
        (torch.rand(1), ValueError, STEP, "got shape (1,)"),
        (
            torch.empty((), device="meta"),
            ValueError,
            "Adaptive.step: real_sign must be on the schedule's device, cpu,",
            "got meta",
        ),
    ],
    ids=["none", "float", "int", "1-d", "device"],
)
def test_invalid_arguments_of_step_are_refused(sign, error, message, got):
    noise = pygan.InstanceNoise(Adaptive(0.0, 1.0, 10, start=0.5))
    before = copy.deepcopy(noise.schedule.state_dict())
    with raises(error, message, got):
        noise.step(sign)
    assert noise.schedule.state_dict() == before
    assert noise.sigma == 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adaptive(-1, 1, 5), "Adaptive: low must be a finite non-negative number, got -1"),
        (lambda: Adaptive(0, math.inf, 5), "Adaptive: high must be a finite non-negative number"),
        (lambda: Adaptive(0.5, 0.5, 5), "Adaptive: low must be less than high, 0.5, got 0.5"),
        (lambda: Adaptive(0, 1, 0), "Adaptive: steps must be an int of at least 1, got 0"),
        (lambda: Adaptive(0, 1, 5, start=2), "Adaptive: start must be from 0.0 to 1.0, got 2.0"),
        (lambda: Adaptive(0, 1, 5, target=1.0), "Adaptive: target must be a number between -1 and"),
    ],
)
def test_invalid_arguments_are_refused(make, message):
    with raises(ValueError, message):
        make()


@pytest.mark.cuda
def test_no_synchronization_on_the_gpu():
    schedule, twin = Adaptive(0.0, 1.0, 10).cuda(), Adaptive(0.0, 1.0, 10)
    measures = signs(6)
    on_gpu = [r.cuda() for r in measures]
    torch.cuda.set_sync_debug_mode("error")
    try:
        for r in on_gpu:
            schedule.step(r)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for r in measures:
        twin.step(r)
    assert torch.equal(schedule.sigma.cpu(), twin.sigma)
