"""The monitor: when it evaluates a reading, how often it reports a state, and what it restores on resume."""

import dataclasses
import io
import json
import math

import pytest
import torch
from helpers import raises
from helpers.monitor import far, mlp, ring, strong_discriminator, train_monitored, trainer_for
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import pygan
from pygan import fused_losses
from pygan.monitor import Diagnosis, Monitor, State
from pygan.monitor.reading import COLUMNS, Transfer
from pygan.schedules import Constant


@pytest.fixture(autouse=True)
def one_thread(restore):
    torch.set_num_threads(1)


# --- the monitor -------------------------------------------------------------------------------------------------


def test_a_state_is_reported_once_each_time_it_is_entered():
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
    assert reported[0] == 17  # steps are counted from 1, and the monitor did not get the first
    assert [holds[i] for i in (0, 15, 39, 79, 119)] == [False, True, True, False, True]


def test_a_value_near_the_threshold_gives_one_diagnosis():
    monitor = Monitor(trainer_for(ring, 0), every=1, window=16)
    stats = monitor.trainer.step(ring(16, None))
    reported = 0
    for step in range(200):
        value = 0.98 * math.log(2) + 0.01 * math.sin(step)
        found = monitor.update(stats._replace(jsd_bound=torch.tensor(value)))
        reported += State.SUPPORTS_DISJOINT in [d.state for d in found]
    assert reported == 1


def test_diagnoses_have_text_and_log_forms():
    seen = []
    found, monitor = train_monitored(
        strong_discriminator(0), far, 0, 110, every=2, on_diagnosis=seen.append
    )
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
    """As on a GPU, the numbers arrive several updates later."""

    late = 3

    def ready(self):
        self.late -= 1
        return self.late < 0

    def read(self):
        assert self.late < 0 or type(self).may_wait, "a reading was waited for"
        return super().read()

    may_wait = False


def test_readings_are_evaluated_on_arrival_and_record_their_step(monkeypatch):
    at_once, _ = train_monitored(strong_discriminator(0), far, 0, 110, every=2)
    monkeypatch.setattr("pygan.monitor.core.Transfer", Late)
    came = []
    trainer = strong_discriminator(0)
    late, _ = train_monitored(
        trainer, far, 0, 110, every=2, on_diagnosis=lambda d: came.append((d, trainer.steps))
    )
    assert late == at_once
    assert came
    assert all(step > diagnosis.step for diagnosis, step in came)


def test_with_noise_a_reading_is_evaluated_at_the_next_one(monkeypatch):
    def run(noise):
        trainer, came = strong_discriminator(0), []
        train_monitored(
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


def test_no_op_runs_between_readings():
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


def test_a_monitor_does_not_affect_training():
    watched, alone = trainer_for(ring, 3), trainer_for(ring, 3)
    train_monitored(watched, ring, 3, 20, every=1)
    generator = torch.Generator().manual_seed(3)
    for _ in range(20):
        alone.step(ring(64, generator))
    for a, b in zip(watched.generator.parameters(), alone.generator.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("cut", [61, 70, 75])
def test_a_resumed_run_gives_the_same_diagnoses(cut):
    """Interrupted between two readings and saved in a file: the rest of the run gives the same diagnoses."""

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


def test_noise_added_by_the_monitor_is_restored_on_resume():
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
def test_a_state_with_other_options_is_refused(name):
    trainer = trainer_for(ring, 0)
    state = Monitor(trainer, every=3, window=20).state_dict()
    other = {"every": 3, "window": 20, name: 30}
    with raises(ValueError, f"Monitor.load_state_dict: {name} must be the saved value,", "got 30"):
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
        measured = not column.startswith("label_")
        if column == "jsd_bound":
            measured = loss in ("non_saturating", "minimax")
        assert math.isfinite(window.mean(column)) == measured, column
    norm = torch.cat([p.grad.flatten().double() for p in G.parameters()]).norm()
    assert window.series("g_grad", 1)[0] == pytest.approx(norm.item(), rel=1e-2)
    norm = torch.cat([p.detach().flatten().double() for p in D.parameters()]).norm()
    assert window.series("d_param", 1)[0] == pytest.approx(norm.item(), rel=1e-2)


class Own:
    """A custom loss, whose logits have an unknown unit."""

    def discriminator_loss(self, real_logits, fake_logits):
        return (fake_logits.exp() + (-real_logits).exp()).mean()

    def generator_loss(self, fake_logits):
        return (-fake_logits).exp().mean()


def test_a_custom_loss_is_monitored_without_the_rules_of_known_ones():
    found, monitor = train_monitored(
        trainer_for(ring, 0, loss=Own()), ring, 0, 20, every=1, window=16
    )
    assert found == []
    assert monitor._window.loss == ""
    assert math.isfinite(monitor._window.mean("real_logit"))


def test_parameter_names_have_no_wrapper_prefix():
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
def test_invalid_arguments_are_refused(options, error, message, got):
    options = {"trainer": trainer_for(ring, 0), **options}
    with raises(error, message, got):
        Monitor(options.pop("trainer"), **options)


def test_update_takes_the_trainers_statistics():
    with raises(
        TypeError, "Monitor.update: stats must be the result of GANTrainer.step", "got dict"
    ):
        Monitor(trainer_for(ring, 0)).update({})


def test_a_diagnosis_prints_the_action():
    text = str(Diagnosis(State.SUPPORTS_DISJOINT, 3, "Evidence.", "Remedy.", {}, "noise."))
    assert text == "step 3: supports disjoint: Evidence. Remedy. Done: noise."


@pytest.mark.cuda
def test_no_synchronization_on_the_gpu():
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
