"""The schedules of sigma, and the module that applies them."""

import copy
import math

import pytest
import torch
from helpers.compile import one_graph
from helpers.schedules import count_compilations
from helpers.sync import NoSync
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ExponentialLR, MultiStepLR

import pygan
from pygan.schedules import Constant, Cosine, Exponential, Linear, Step

RAMPS = [Linear, Cosine]
SIGMA = st.floats(0, 100)


def each_schedule():
    """One of each count-based schedule; none ends within 4 steps."""
    return [
        Constant(0.3),
        Linear(1.0, 0.1, 10),
        Cosine(1.0, 0.1, 10),
        Exponential(1.0, 0.7),
        Step([0.5, 0.2, 0.1], milestones=[2, 5]),
    ]


@pytest.mark.parametrize("ramp", RAMPS)
@settings(deadline=None, derandomize=True, max_examples=40)
@given(start=SIGMA, end=SIGMA, steps=st.integers(1, 30))
def test_ramps_go_from_start_to_end_and_stay(ramp, start, end, steps):
    schedule = ramp(start, end, steps)
    values = []
    for _ in range(steps + 3):
        values.append(schedule.sigma.item())
        schedule.step()
    assert values[0] == pytest.approx(start, rel=1e-6)
    assert values[steps:] == [torch.tensor(end).item()] * 3
    ordered = sorted(values, reverse=start > end)
    assert values == pytest.approx(ordered, rel=1e-6)
    assert schedule.count == steps + 3


def test_halfway_values():
    for ramp, quarter in ((Linear, 0.75), (Cosine, 0.5 * (1 + math.sqrt(0.5)))):
        schedule = ramp(1.0, 0.0, 4)
        schedule.step()
        assert schedule.sigma.item() == pytest.approx(quarter)
        schedule.step()
        assert schedule.sigma.item() == pytest.approx(0.5)


def test_a_constant_schedule_does_not_change():
    schedule = Constant(0.25)
    schedule.step()
    assert schedule.sigma == 0.25


def torch_values(scheduler, start, count, **options):
    """The values of a torch learning-rate scheduler that starts at `start`, for `count` steps."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=start)
    schedule = scheduler(optimizer, **options)
    values = []
    for _ in range(count):
        values.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return values


def values_of(schedule, count):
    values = []
    for _ in range(count):
        values.append(schedule.sigma.item())
        schedule.step()
    return values


@settings(deadline=None, derandomize=True, max_examples=20)
@given(start=st.floats(0.01, 10), gamma=st.floats(0.01, 0.999), count=st.integers(1, 40))
def test_exponential_equals_torch(start, gamma, count):
    expected = torch_values(ExponentialLR, start, count, gamma=gamma)
    assert values_of(Exponential(start, gamma), count) == pytest.approx(expected, rel=1e-6)


def test_exponential_stops_at_its_end():
    values = values_of(Exponential(0.8, 0.5, end=0.15), 6)
    assert values == pytest.approx([0.8, 0.4, 0.2, 0.15, 0.15, 0.15])
    half_life = Exponential(0.8, 0.5 ** (1 / 50))
    assert values_of(half_life, 51)[50] == pytest.approx(0.4)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(milestones=st.sets(st.integers(1, 30)), gamma=st.floats(0.1, 0.9))
def test_step_equals_torch_multisteplr(milestones, gamma):
    milestones = sorted(milestones)
    values = [gamma**k for k in range(len(milestones) + 1)]
    expected = torch_values(MultiStepLR, 1.0, 33, milestones=milestones, gamma=gamma)
    assert values_of(Step(values, milestones), 33) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("schedule", each_schedule(), ids=lambda s: type(s).__name__)
def test_count_based_schedules_ignore_the_statistic(schedule):
    twin = copy.deepcopy(schedule)
    for _ in range(4):
        schedule.step()
        twin.step(torch.tensor(1.0))
        assert twin.sigma == schedule.sigma


def test_sigma_is_one_float32_buffer_written_in_place():
    schedule = Linear(1.0, 0.0, 8)
    sigma = schedule.sigma
    assert sigma.shape == ()
    assert sigma.dtype == torch.float32
    with NoSync():
        schedule.step()
    assert schedule.sigma is sigma
    assert sigma == 0.875
    schedule.half()
    assert schedule.sigma is sigma
    assert sigma.dtype == torch.float32
    assert sigma == 0.875


@pytest.mark.parametrize("schedule", each_schedule(), ids=lambda s: type(s).__name__)
def test_state_dict_resumes(schedule, tmp_path):
    resumed = copy.deepcopy(schedule)
    for _ in range(4):
        schedule.step()
    torch.save(schedule.state_dict(), tmp_path / "schedule.pt")
    resumed.load_state_dict(torch.load(tmp_path / "schedule.pt", weights_only=True))
    for _ in range(4):
        assert resumed.count == schedule.count
        assert torch.equal(resumed.sigma, schedule.sigma)
        schedule.step()
        resumed.step()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(-0.1), "Constant: sigma must be a finite non-negative number, got -0.1"),
        (lambda: Linear(math.nan, 0, 5), "Linear: start must be a finite non-negative number, got"),
        (lambda: Cosine(1, math.inf, 5), "Cosine: end must be a finite non-negative number, got"),
        (lambda: Linear(1, 0, 0), "Linear: steps must be an int of at least 1, got 0"),
        (lambda: Linear(1, 0, 2.5), "Linear: steps must be an int of at least 1, got 2.5"),
        (lambda: Exponential(-1, 0.5), "Exponential: start must be a finite non-negative number"),
        (lambda: Exponential(1, 1.0), "Exponential: gamma must be a number between 0 and 1, .*got"),
        (lambda: Exponential(1, True), "Exponential: gamma must be a number .* got True"),
        (lambda: Exponential(0.1, 0.5, end=1), "Exponential: end must be at most start, 0.1, got"),
        (lambda: Step([1, -1], [5]), "Step: each of values must be .* non-negative .*, got -1"),
        (lambda: Step([1, 0], [0]), "Step: each milestone must be an int of at least 1, got 0"),
        (lambda: Step([3, 2, 1], [5, 5]), r"Step: milestones must increase, got \[5, 5\]"),
        (lambda: Step([1], [5]), "Step: values must be one more .* got 1 values and 1 milestone"),
    ],
)
def test_schedule_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_module_equals_the_op():
    noise = pygan.InstanceNoise(Linear(1.0, 0.0, 4), seed=7)
    stream = pygan.NoiseStream(7)
    x = torch.randn(3, 5)
    for sigma in (1.0, 0.75, 0.5):
        assert torch.equal(noise(x), pygan.instance_noise(x, sigma, stream=stream))
        noise.step()
    assert noise.stream.step == 3
    assert noise.sigma == 0.25


def test_noise_agrees_with_the_reference():
    noise = pygan.InstanceNoise(Constant(0.5), seed=2**63 - 1)
    x = torch.randn(9, 7)
    for step in range(2):
        expected = pygan.reference.instance_noise(x, 0.5, seed=2**63 - 1, step=step)
        torch.testing.assert_close(noise(x), expected, rtol=1e-6, atol=2e-6)


def test_eval_is_the_identity_and_draws_nothing():
    noise = pygan.InstanceNoise(Constant(1.0), seed=1).eval()
    x = torch.randn(4)
    assert noise(x) is x
    assert noise.stream.step == 0


def test_manual_seed_reproduces_an_unseeded_module():
    x = torch.zeros(8)
    outs = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        outs.append(pygan.InstanceNoise(Constant(1.0))(x))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


def test_noise_resumes_from_a_checkpoint(tmp_path):
    x = torch.zeros(8)
    noise = pygan.InstanceNoise(Linear(1.0, 0.0, 10), seed=3)
    for _ in range(3):
        noise(x)
        noise.step()
    torch.save(noise.state_dict(), tmp_path / "noise.pt")
    resumed = pygan.InstanceNoise(Linear(1.0, 0.0, 10), seed=99)
    resumed.load_state_dict(torch.load(tmp_path / "noise.pt", weights_only=True))
    assert resumed.sigma == noise.sigma
    assert torch.equal(resumed(x), noise(x))
    twin = copy.deepcopy(noise)
    assert torch.equal(twin(x), noise(x))


def test_gradient_passes_through():
    noise = pygan.InstanceNoise(Constant(0.3), seed=1)
    x = torch.randn(4, requires_grad=True)
    noise(x).square().sum().backward()
    expected = 2 * pygan.instance_noise(x.detach(), 0.3, stream=pygan.NoiseStream(1))
    torch.testing.assert_close(x.grad, expected)


def test_the_module_needs_a_schedule():
    with pytest.raises(
        TypeError, match=r"schedule must be .* schedules.Constant\(0.1\).*, got float"
    ):
        pygan.InstanceNoise(0.1)


@one_graph
def test_compiled_once_while_sigma_changes():
    noise, twin = (pygan.InstanceNoise(Linear(0.5, 0.0, 9), seed=1) for _ in range(2))
    function, compiled = count_compilations(noise)
    x = torch.randn(4, 5)
    for _ in range(4):
        assert torch.equal(function(x), twin(x))
        noise.step()
        twin.step()
    assert len(compiled) == 1


@pytest.mark.cuda
def test_noise_follows_its_input_to_the_gpu():
    noise, twin = (pygan.InstanceNoise(Constant(0.5), seed=4) for _ in range(2))
    x = torch.randn(33)
    assert torch.equal(noise(x), twin(x))
    on_gpu = noise.cuda()(x.cuda())
    assert torch.equal(on_gpu.cpu(), twin(x))
    assert noise.stream.step == 2


def test_the_module_moves_its_stream():
    noise = pygan.InstanceNoise(Constant(0.5), seed=3)
    stream = noise.stream
    noise.half()  # converts floating-point tensors, but not the stream
    assert noise.stream is stream
    assert stream.state.dtype == torch.int64
    noise.to("meta")
    assert noise.stream is stream
    assert stream.device.type == "meta"


def test_shape_propagation_does_not_advance_the_stream():
    noise = pygan.InstanceNoise(pygan.schedules.Constant(0.5), seed=3)
    assert noise(torch.ones(4, 2, device="meta")).shape == (4, 2)
    with pytest.raises(TypeError, match=r"^pygan.instance_noise: x must be float32"):
        noise(torch.ones(3, dtype=torch.int64, device="meta"))
    assert (noise.stream.device.type, noise.stream.step) == ("cpu", 0)


def test_created_on_meta_and_loaded():
    made = pygan.InstanceNoise(pygan.schedules.Linear(0.5, 0.0, steps=4), seed=3)
    made.step()
    made(torch.zeros(2))
    with torch.device("meta"):
        empty = pygan.InstanceNoise(pygan.schedules.Linear(0.5, 0.0, steps=4), seed=1)
    empty.to_empty(device="cpu").load_state_dict(made.state_dict())
    assert torch.equal(empty(torch.zeros(5)), made(torch.zeros(5)))
