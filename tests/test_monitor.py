"""The monitor's parts: what is measured, when it is looked at, what is said how often, and what a resume keeps."""

import dataclasses
import io
import json
import math

import numpy as np
import pytest
import torch
from helpers import raises
from helpers_monitor import far, mlp, ring, strong_discriminator, trainer_for, watch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import pygan
from pygan import fused_losses
from pygan.monitor import Diagnosis, Monitor, State, nonfinite
from pygan.monitor.diversity import measures
from pygan.monitor.oscillation import swing
from pygan.monitor.reading import COLUMNS, STATS, Reading, Transfer
from pygan.monitor.rules import RULES
from pygan.monitor.window import Window
from pygan.schedules import Constant


@pytest.fixture(autouse=True)
def one_thread(restore):
    torch.set_num_threads(1)


# --- diversity ---------------------------------------------------------------------------------------------------


def by_hand(real, fake):
    """The three measures, pair by pair in float64."""
    x, y = real.double().flatten(1), fake.double().flatten(1)
    n, m = len(x), len(y)

    def distance(a, b):
        return torch.stack([torch.stack([(p - q).norm() for q in b]) for p in a])

    xx, yy, xy = distance(x, x), distance(y, y), distance(x, y)
    rm, fm = xx.sum() / (n * (n - 1)), yy.sum() / (m * (m - 1))
    numbers = [1 / torch.exp(-(w**2) / (2 * (rm / 4) ** 2)).mean() for w in (xx, yy)]
    return torch.stack([*numbers, (2 * xy.mean() - rm - fm) / (2 * xy.mean())]).float()


@pytest.mark.parametrize("shape", [(1,), (2,), (3, 4, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_diversity_is_its_definition(shape, dtype):
    torch.manual_seed(0)
    real, fake = torch.randn(12, *shape).to(dtype), (0.5 * torch.randn(9, *shape) + 1).to(dtype)
    torch.testing.assert_close(measures(real, fake), by_hand(real, fake), rtol=1e-4, atol=1e-4)


def test_diversity_counts_what_is_different():
    modes = torch.eye(8).repeat(8, 1)  # eight points, all equally far from each other
    two = modes[torch.arange(64) % 2]
    real, fake, energy = measures(modes, two).tolist()
    assert real == pytest.approx(8, rel=0.02)
    assert fake == pytest.approx(2, rel=0.01)
    assert energy > 0.1
    real, fake, _ = measures(torch.randn(64, 500), torch.ones(64, 500)).tolist()
    assert (real, fake) == (pytest.approx(64, rel=0.05), pytest.approx(1))


def test_diversity_has_no_scale_and_no_origin():
    torch.manual_seed(1)
    real, fake = torch.randn(64, 2), torch.randn(64, 2) * 0.3
    moved = [100 * (x @ torch.tensor([[0.6, -0.8], [0.8, 0.6]])) + 1000 for x in (real, fake)]
    torch.testing.assert_close(measures(*moved), measures(real, fake), rtol=1e-3, atol=1e-3)


def test_energy_is_unbiased_at_zero():
    generator = torch.Generator().manual_seed(0)
    energies = [measures(*torch.randn(2, 32, 5, generator=generator))[2] for _ in range(200)]
    mean, std = torch.stack(energies).mean(), torch.stack(energies).std()
    assert abs(mean) < 4 * std / math.sqrt(200)
    assert measures(torch.randn(16, 5), torch.randn(16, 5) + 1000)[2] > 0.99


@pytest.mark.parametrize(
    "batches",
    [
        (None, None),
        (torch.randn(7, 2), torch.randn(64, 2)),
        (torch.randn(64, 2), torch.randn(64, 3)),
        (torch.zeros(64, 2, dtype=torch.uint8), torch.randn(64, 2)),
        (torch.zeros(64, 2), torch.zeros(64, 2)),
        (torch.full((64, 2), math.nan), torch.randn(64, 2)),
    ],
)
def test_diversity_of_what_cannot_be_compared_is_nan(batches):
    assert measures(*batches).isnan().all()


# --- oscillation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", [5.3, 7.5, 20.0, 31.0])
def test_swing_names_the_period(period):
    t = np.arange(100.0)
    noise = np.random.default_rng(0).normal(size=100)
    found = swing(3 + 0.05 * t + 0.7 * np.sin(2 * np.pi * t / period) + 0.15 * noise)
    assert found.period == pytest.approx(period, rel=0.03)
    assert found.amplitude == pytest.approx(0.7, rel=0.1)
    assert found.strength > 0.75
    assert found.lasting == pytest.approx(1, abs=0.25)


def test_swing_sees_decay_and_no_period_in_noise():
    t = np.arange(100.0)
    assert swing(np.exp(-t / 40) * np.sin(t)).lasting < 0.3
    assert swing(np.ones(100)) is None
    assert swing(t) is None
    rng = np.random.default_rng(0)
    for walk in (False, True):
        strengths = []
        for _ in range(300):
            x = rng.normal(size=100)
            found = swing(np.cumsum(x) if walk else x)
            strengths.append(found.strength if found else 0.0)
        assert max(strengths) < 0.75


# --- non-finite values -------------------------------------------------------------------------------------------


def reading(step=1, parameters=(), **values):
    row = [values.get(name, 0.0) for name in STATS]
    return Reading(
        [step], [row], [values.get(name, math.nan) for name in COLUMNS[len(STATS) :]], [*parameters]
    )


@pytest.mark.parametrize(
    ("values", "parameters", "origin"),
    [
        ({"nonfinite": 1.0, "real_logit": math.nan}, [], "data"),
        ({"nonfinite": 9.0, "fake_logit": math.inf}, ["G.0.weight"], "generator"),
        ({"nonfinite": 9.0, "real_logit": math.nan, "fake_logit": math.nan}, [], "discriminator"),
        ({"g_nonfinite": 2.0}, ["D.0.weight"], "discriminator"),
        ({}, ["G.0.bias", "D.0.weight"], "generator"),
        ({}, ["D.0.bias"], "discriminator"),
    ],
)
def test_where_nonfinite_values_began(values, parameters, origin):
    found = nonfinite.find(reading(5, parameters, **values))
    assert (found.state, found.step, found.numbers["origin"]) == (State.NON_FINITE, 5, origin)
    assert origin in found.evidence
    assert all(name in found.evidence for name in parameters)


def test_finite_readings_say_nothing():
    assert nonfinite.find(reading(real_logit=1e30, jsd_bound=math.nan)) is None


# --- rules -------------------------------------------------------------------------------------------------------


def window_of(loss="non_saturating", windows=4, size=16, **values):
    window = Window(size, loss)
    healthy = {
        "g_grad": 1.0,
        "g_param": 10.0,
        "real_number": 8.0,
        "fake_number": 8.0,
        "energy": 0.01,
    }
    for step in range(1, windows * size + 1):
        now = {name: value(step) if callable(value) else value for name, value in values.items()}
        window.add(reading(step, **{**healthy, **now}))
    return window


def held(window, before=()):
    return {state for state, rule in RULES.items() if rule(window, state in before) is not None}


WRONG = {
    State.SUPPORTS_DISJOINT: {"jsd_bound": 0.69},
    State.DISCRIMINATOR_WON: {"real_accuracy": 1.0, "fake_accuracy": 1.0, "g_grad": 1e-3},
    State.DISCRIMINATOR_BLIND: {"energy": 0.4, "real_logit": 0.01},
    State.GENERATOR_SATURATED: {"d_fake_after": 0.01},
    State.OSCILLATION: {"real_logit": lambda step: math.sin(step)},
    State.MODE_COLLAPSE: {"fake_number": lambda step: 8.0 if step < 30 else 1.0},
}


@pytest.mark.parametrize("loss", [*fused_losses.LOSSES, object()])
@pytest.mark.parametrize("state", WRONG)
def test_each_rule_finds_its_state_for_the_losses_it_is_for(loss, state):
    healthy = {"jsd_bound": 0.1, "real_logit": 0.5, "d_fake_after": 0.4, "d_loss": 1.0}
    values = {**healthy, **WRONG[state]}
    if loss not in ("non_saturating", "minimax"):
        values["jsd_bound"] = math.nan
    elif state is State.DISCRIMINATOR_BLIND:
        values["jsd_bound"] = 0.001
    if state is State.DISCRIMINATOR_WON and loss != "hinge":
        values["d_loss"] = 1e-4
    applies = {
        State.SUPPORTS_DISJOINT: loss in ("non_saturating", "minimax"),
        State.DISCRIMINATOR_WON: loss in fused_losses.LOSSES and loss != "wasserstein",
        State.DISCRIMINATOR_BLIND: loss in fused_losses.LOSSES and loss != "wasserstein",
        State.GENERATOR_SATURATED: loss == "minimax",
        State.OSCILLATION: True,
        State.MODE_COLLAPSE: True,
    }
    assert held(window_of(loss, **values)) == ({state} if applies[state] else set())
    assert held(window_of(loss, **healthy)) == set()


def test_slow_progress_is_no_blindness_and_no_collapse():
    """Real and generated samples differ, the discriminator hardly tells them apart, and yet they come closer."""
    values = {"jsd_bound": 0.001, "real_logit": 0.02, "fake_number": 1.0}
    assert held(window_of(energy=0.4, **values)) == {State.DISCRIMINATOR_BLIND, State.MODE_COLLAPSE}
    assert held(window_of(energy=lambda step: 0.4 * math.exp(-step / 150), **values)) == set()


def test_a_transient_swing_is_no_oscillation():
    def gap(step):
        return math.sin(step) * (step > 32)

    assert held(window_of(windows=4, jsd_bound=0.1, real_logit=gap)) == set()
    assert held(window_of(windows=5, jsd_bound=0.1, real_logit=gap)) == {State.OSCILLATION}


def test_a_gap_in_the_measures_is_no_finding_and_does_not_blind():
    """Small last batches have no diversity; a gradient scaler's first gradients are infinite."""
    window = window_of(
        fake_number=lambda step: math.nan if step % 5 == 0 else 4.0,
        g_grad=lambda step: math.nan if step % 7 == 0 else 2.0,
    )
    assert window.diversity() == pytest.approx(0.5)
    assert window.sensitivity() == pytest.approx(20)
    assert math.isnan(window_of(fake_number=math.nan).diversity())


def test_the_typical_logit_is_exact():
    """From loss and mean logits alone: the |a| for which log cosh(a/2) is what it is on the mean."""
    real, fake = 0.3 * torch.randn(2, 1000, dtype=torch.float64)
    _, stats = fused_losses.discriminator_loss(real, fake, return_stats=True)
    values = {
        name: getattr(stats, name).item() for name in ("real_logit", "fake_logit", "jsd_bound")
    }
    finding = RULES[State.DISCRIMINATOR_BLIND](window_of(energy=0.5, **values), False)
    cosh = torch.log(torch.cosh(torch.cat([real, fake]) / 2)).mean()
    assert finding.numbers["typical_logit"] == pytest.approx(
        2 * math.acosh(math.exp(cosh)), rel=1e-6
    )


def test_the_window_keeps_what_the_rules_need():
    window = window_of(windows=13, jsd_bound=lambda step: float(step))
    assert window.step == 13 * 16
    assert window.steps == 16
    assert window.mean("jsd_bound") == pytest.approx(13 * 16 - 7.5)
    assert window.mean("jsd_bound", windows_ago=3) == pytest.approx(10 * 16 - 7.5)


# --- the monitor -------------------------------------------------------------------------------------------------


def test_a_state_is_reported_when_it_is_entered_and_again_after_it_was_left():
    trainer = trainer_for(ring, 0)
    monitor = Monitor(trainer, every=1, window=16)
    bound = iter([0.69] * 40 + [0.1] * 40 + [0.69] * 40)
    stats, reported, holds = trainer.step(ring(16, None)), [], []
    for value in bound:
        trainer.steps += 1
        found = monitor.update(stats._replace(jsd_bound=torch.tensor(value)))
        reported += [d.step for d in found if d.state is State.SUPPORTS_DISJOINT]
        holds.append(State.SUPPORTS_DISJOINT in monitor.states)
    assert len(reported) == 2
    assert reported[0] == 17  # steps are counted from 1, and the first was not shown to the monitor
    assert [holds[i] for i in (0, 15, 39, 79, 119)] == [False, True, True, False, True]


def test_a_value_at_the_threshold_is_one_diagnosis():
    monitor = Monitor(trainer_for(ring, 0), every=1, window=16)
    stats = monitor.trainer.step(ring(16, None))
    reported = 0
    for step in range(200):
        value = 0.98 * math.log(2) + 0.01 * math.sin(step)
        found = monitor.update(stats._replace(jsd_bound=torch.tensor(value)))
        reported += State.SUPPORTS_DISJOINT in [d.state for d in found]
    assert reported == 1


def test_diagnoses_are_for_people_and_for_logs():
    seen = []
    found, monitor = watch(strong_discriminator(0), far, 0, 110, every=2, on_diagnosis=seen.append)
    assert found
    assert seen == found
    for diagnosis in found:
        assert str(diagnosis).startswith(
            f"step {diagnosis.step}: {diagnosis.state.value.replace('_', ' ')}: "
        )
        assert diagnosis.evidence in str(diagnosis)
        assert diagnosis.remedy in str(diagnosis)
        assert (
            json.loads(json.dumps(dataclasses.asdict(diagnosis)))["state"] == diagnosis.state.value
        )
    assert all(diagnosis in found for diagnosis in monitor.states.values())


class Late(Transfer):
    """As on a GPU: the numbers arrive some updates after they were asked for."""

    late = 3

    def ready(self):
        self.late -= 1
        return self.late < 0

    def read(self):
        assert self.late < 0 or type(self).may_wait, "a reading was waited for"
        return super().read()

    may_wait = False


def test_readings_are_looked_at_when_they_arrive_and_carry_their_step(monkeypatch):
    at_once, _ = watch(strong_discriminator(0), far, 0, 110, every=2)
    monkeypatch.setattr("pygan.monitor.core.Transfer", Late)
    came = []
    trainer = strong_discriminator(0)
    late, _ = watch(
        trainer, far, 0, 110, every=2, on_diagnosis=lambda d: came.append((d, trainer.steps))
    )
    assert late == at_once
    assert came
    assert all(step > diagnosis.step for diagnosis, step in came)


def test_with_noise_to_give_a_reading_is_looked_at_at_the_next(monkeypatch):
    def run(noise):
        trainer, came = strong_discriminator(0), []
        watch(
            trainer,
            far,
            0,
            110,
            every=2,
            noise=noise,
            on_diagnosis=lambda d: came.append((d, trainer.steps)),
        )
        return came

    at_once = run(pygan.InstanceNoise(Constant(1.0), seed=0))
    monkeypatch.setattr("pygan.monitor.core.Transfer", Late)
    monkeypatch.setattr(Late, "may_wait", True)
    assert at_once
    assert run(pygan.InstanceNoise(Constant(1.0), seed=0)) == at_once
    assert all(step == diagnosis.step + 2 for diagnosis, step in at_once)


def test_between_readings_no_op_is_called():
    class Count(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.ops = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.ops.append(func)
            return func(*args, **(kwargs or {}))

    trainer = trainer_for(ring, 0)
    monitor = Monitor(trainer, every=5)
    counts = []
    for _ in range(10):
        stats = trainer.step(ring(16, None))
        with Count() as count:
            monitor.update(stats)
        counts.append(len(count.ops))
    assert [bool(n) for n in counts] == [False, False, False, False, True] * 2


def test_training_is_the_same_under_a_monitor():
    watched, alone = trainer_for(ring, 3), trainer_for(ring, 3)
    watch(watched, ring, 3, 20, every=1)
    generator = torch.Generator().manual_seed(3)
    for _ in range(20):
        alone.step(ring(64, generator))
    for a, b in zip(watched.generator.parameters(), alone.generator.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("cut", [61, 70, 75])
def test_a_resumed_run_gives_the_same_diagnoses(cut):
    """Cut in between two readings, and through a file: the rest of the run says what it would have said."""

    def loop(trainer, monitor, steps):
        found = []
        for _ in steps:
            found += monitor.update(
                trainer.step([far(64, torch.Generator().manual_seed(trainer.steps))] * 3)
            )
        return found

    def fresh():
        trainer = strong_discriminator(0)
        noise = pygan.InstanceNoise(Constant(1.0), seed=0)
        return trainer, Monitor(trainer, every=2, window=32, noise=noise)

    whole = fresh()
    everything = loop(*whole, range(110))
    first = fresh()
    early = loop(*first, range(cut))
    file = io.BytesIO()
    torch.save([part.state_dict() for part in first], file)
    file.seek(0)
    trainer_state, monitor_state = torch.load(file, weights_only=True)
    trainer, monitor = fresh()
    monitor.load_state_dict(monitor_state)
    trainer.load_state_dict(trainer_state)
    assert monitor.states == first[1].states
    late = loop(trainer, monitor, range(cut, 110))
    assert early + late == everything
    assert len(everything) == 1
    assert trainer.noise is monitor.noise
    assert monitor.states == whole[1].states


def test_noise_that_was_given_is_given_again_after_a_resume():
    def fresh():
        trainer = trainer_for(ring, 0)
        return trainer, Monitor(
            trainer, every=1, window=16, noise=pygan.InstanceNoise(Constant(1.0), seed=0)
        )

    trainer, monitor = fresh()
    stats = trainer.step(ring(64, None))
    for _ in range(20):
        monitor.update(stats._replace(jsd_bound=torch.tensor(0.69)))
    assert trainer.noise is monitor.noise
    trainer.step(ring(64, None))
    again, other = fresh()
    other.load_state_dict(monitor.state_dict())
    assert again.noise is other.noise
    again.load_state_dict(trainer.state_dict())
    assert again.noise.stream.step == trainer.noise.stream.step > 0
    with raises(ValueError, "Monitor.load_state_dict: noise must be given", "got None"):
        Monitor(trainer_for(ring, 0), every=1, window=16).load_state_dict(monitor.state_dict())


@pytest.mark.parametrize("name", ["every", "window"])
def test_a_state_of_other_options_is_refused(name):
    trainer = trainer_for(ring, 0)
    state = Monitor(trainer, every=3, window=20).state_dict()
    other = {"every": 3, "window": 20, name: 30}
    with raises(ValueError, f"Monitor.load_state_dict: {name} must be what it was,", "got 30"):
        Monitor(trainer, **other).load_state_dict(state)


class TwoScales(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList([nn.Conv2d(3, 1, 3), nn.Conv2d(3, 2, 5)])

    def forward(self, x):
        return [head(x) for head in self.heads]


class Images(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 3 * 8 * 8)

    def forward(self, z):
        return self.layer(z).tanh().view(-1, 3, 8, 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("loss", fused_losses.LOSSES)
def test_every_loss_images_lists_of_logits_and_dtypes(loss, dtype):
    G, D = Images().to(dtype), TwoScales().to(dtype)
    trainer = pygan.GANTrainer(
        G,
        D,
        torch.optim.SGD(G.parameters(), lr=1e-3),
        torch.optim.SGD(D.parameters(), lr=1e-3),
        latent=8,
        loss=loss,
    )
    monitor = Monitor(trainer, every=2, window=16)
    for _ in range(34):
        monitor.update(trainer.step(torch.randn(9, 3, 8, 8, dtype=dtype)))
    window = monitor._window
    assert window.count == 17
    for column in COLUMNS:
        logistic = loss in ("non_saturating", "minimax")
        assert math.isfinite(window.mean(column)) == (column != "jsd_bound" or logistic), column
    norm = torch.cat([p.grad.flatten().double() for p in G.parameters()]).norm()
    assert window.series("g_grad", 1)[0] == pytest.approx(norm.item(), rel=1e-2)
    norm = torch.cat([p.detach().flatten().double() for p in D.parameters()]).norm()
    assert window.series("d_param", 1)[0] == pytest.approx(norm.item(), rel=1e-2)


class Own:
    """A loss of the user's own, whose logits' unit nobody knows."""

    def discriminator_loss(self, real_logits, fake_logits):
        return (fake_logits.exp() + (-real_logits).exp()).mean()

    def generator_loss(self, fake_logits):
        return (-fake_logits).exp().mean()


def test_a_loss_of_ones_own():
    found, monitor = watch(trainer_for(ring, 0, loss=Own()), ring, 0, 20, every=1, window=16)
    assert found == []
    assert monitor._window.loss == ""
    assert math.isfinite(monitor._window.mean("real_logit"))


def test_wrappers_do_not_show_in_the_names():
    trainer = trainer_for(
        ring, 0, networks=lambda: (mlp(8, 2), torch.compile(mlp(2, 1), backend="eager"))
    )
    monitor = Monitor(trainer, every=1)
    stats = trainer.step(ring(16, None))
    with torch.no_grad():
        trainer.discriminator._orig_mod[2].bias[0] = math.nan
    (diagnosis,) = monitor.update(stats)
    assert diagnosis.numbers["parameters"] == ["D.2.bias"]


@pytest.mark.parametrize(
    ("options", "error", "message", "got"),
    [
        ({"trainer": 1}, TypeError, "Monitor: trainer must be a pygan.GANTrainer", "got int"),
        ({"every": 0}, ValueError, "Monitor: every must be an int of at least 1", "got 0"),
        ({"every": True}, ValueError, "Monitor: every must be an int of at least 1", "got True"),
        ({"window": 15}, ValueError, "Monitor: window must be an int of at least 16", "got 15"),
        ({"noise": 0.1}, TypeError, "Monitor: noise must be a pygan.InstanceNoise", "got float"),
        ({"on_diagnosis": 1}, TypeError, "Monitor: on_diagnosis must be a callable", "got int"),
    ],
)
def test_arguments_are_checked(options, error, message, got):
    options = {"trainer": trainer_for(ring, 0), **options}
    with raises(error, message, got):
        Monitor(options.pop("trainer"), **options)


def test_update_takes_the_trainers_statistics():
    with raises(
        TypeError, "Monitor.update: stats must be what GANTrainer.step returns", "got dict"
    ):
        Monitor(trainer_for(ring, 0)).update({})


def test_a_diagnosis_prints_what_was_done():
    text = str(Diagnosis(State.SUPPORTS_DISJOINT, 3, "Evidence.", "Remedy.", {}, "noise."))
    assert text == "step 3: supports disjoint: Evidence. Remedy. Done: noise."


@pytest.mark.cuda
def test_on_the_gpu_nothing_synchronises():
    networks = [net.cuda() for net in (mlp(8, 2), mlp(2, 1))]
    trainer = trainer_for(ring, 0, networks=lambda: networks)
    monitor = Monitor(trainer, every=1, window=16)
    data = ring(64, torch.Generator().manual_seed(0)).cuda()
    monitor.update(trainer.step(data))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(40):
            monitor.update(trainer.step(data))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    monitor.update(trainer.step(data))
    assert monitor._window.count >= 41
    monitor.load_state_dict(monitor.state_dict())
    monitor.update(trainer.step(data))
