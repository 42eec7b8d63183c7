"""The monitor on real training runs: it finds each provoked state, and raises no alarm in healthy runs. The thresholds
were chosen with seeds from 100 on."""

import copy
import math

import pytest
import torch
from helpers.monitor import (
    HEALTHY,
    digits,
    far,
    leaky,
    mlp,
    ring,
    states,
    strong_discriminator,
    train_monitored,
    trainer_for,
    zeros,
)
from helpers.trainer import dirac
from torch import nn

import pygan
from pygan.monitor import State
from pygan.penalties import R1
from pygan.schedules import Constant, Linear

SEEDS = range(10)


@pytest.fixture(autouse=True)
def one_thread(restore):
    torch.set_num_threads(1)  # the networks are too small for more threads


@pytest.mark.slow
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_runs_raise_no_alarm(name):
    data, options = HEALTHY[name]
    for seed in SEEDS:
        trainer = trainer_for(data, seed, **copy.deepcopy(options))
        found, monitor = train_monitored(trainer, data, seed, steps=300)
        assert found == [], f"seed {seed}: {found[0]}"
        assert monitor.states == {}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_disjoint_supports(seed):
    found, monitor = train_monitored(strong_discriminator(seed), far, seed, 150, every=2)
    assert states(found) == ["supports_disjoint"]
    (diagnosis,) = found
    assert diagnosis.numbers["jsd_bound"] > 0.98 * math.log(2)
    assert "instance noise" in diagnosis.remedy
    assert diagnosis.action == ""
    # The non-saturating generator still gets a gradient, so the discriminator has not won.
    assert list(monitor.states) == [State.SUPPORTS_DISJOINT]


class Probabilities(nn.Module):
    """A discriminator that returns probabilities, by different implementations."""

    def __init__(self, form):
        super().__init__()
        self.body, self.form = mlp(2, 1, activation=leaky), form

    def forward(self, x):
        return self.form(self.body(x))


FORMS = {
    "sigmoid": torch.sigmoid,
    "squeezed": lambda x: torch.sigmoid(x).squeeze(1).view(-1, 1),
    "indexed": lambda x: x.expand(-1, 3).sigmoid()[:, 0],
    "turned": lambda x: x.sigmoid()[:, :1].t().expand(3, -1).permute(1, 0).clone(),
    "averaged, in half": lambda x: x.expand(-1, 3).sigmoid().mean(1).bfloat16(),
    "scales": lambda x: [x.sigmoid(), (2 * x).sigmoid()],
}


@pytest.mark.parametrize("loss", ["non_saturating", "hinge", "relativistic"])
@pytest.mark.parametrize("form", FORMS)
def test_a_discriminator_that_ends_in_a_sigmoid(form, loss):
    """It trains to a loss of 1.39, or to accuracies of 1 and 0."""
    trainer = trainer_for(
        ring, 0, loss=loss, networks=lambda: (mlp(8, 2), Probabilities(FORMS[form]))
    )
    found, _ = train_monitored(trainer, ring, 0, 70)
    assert states(found) == ["sigmoid_output"]
    assert "Remove the sigmoid" in found[0].remedy
    assert 0.0 < found[0].numbers["fake_logit"] < 1.0


@pytest.mark.parametrize("module", [nn.Sigmoid(), nn.Identity()])
def test_a_compiled_discriminator_that_ends_in_a_sigmoid(module):
    D = nn.Sequential(mlp(2, 1, activation=leaky), module)
    compiled = torch.compile(D, backend="aot_eager")
    trainer = trainer_for(ring, 0, networks=lambda: (mlp(8, 2), compiled))
    trainer.step(ring(8, torch.Generator().manual_seed(0)))
    assert trainer.ends_in_sigmoid is isinstance(module, nn.Sigmoid)


def test_a_sigmoid_elsewhere_is_not_a_final_sigmoid():
    def gated(x):
        return x * torch.sigmoid(x)

    trainer = trainer_for(ring, 0, networks=lambda: (mlp(8, 2), Probabilities(gated)))
    trainer.step(ring(8, torch.Generator().manual_seed(0)))
    assert trainer.ends_in_sigmoid is False


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_minimax_from_a_bad_start_saturates_and_the_discriminator_wins(seed):
    found, _ = train_monitored(strong_discriminator(seed, loss="minimax"), far, seed, 150, every=2)
    by_state = {diagnosis.state: diagnosis for diagnosis in found}
    assert set(by_state) == {
        State.GENERATOR_SATURATED,
        State.SUPPORTS_DISJOINT,
        State.DISCRIMINATOR_WON,
    }
    assert by_state[State.GENERATOR_SATURATED].numbers["d_fake"] < 0.05
    assert "non_saturating" in by_state[State.GENERATOR_SATURATED].remedy


@pytest.mark.parametrize("loss", ["non_saturating", "hinge"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_discriminator_wins(loss, seed):
    """The generator's tanh cannot reach the data, and is driven into saturation."""

    def networks():
        return nn.Sequential(mlp(8, 2), nn.Tanh()), mlp(2, 1, activation=leaky)

    trainer = trainer_for(far, seed, g_lr=1e-2, d_lr=1e-2, d_steps=3, loss=loss, networks=networks)
    found, _ = train_monitored(trainer, far, seed, 150, every=2)
    (won,) = [diagnosis for diagnosis in found if diagnosis.state is State.DISCRIMINATOR_WON]
    assert won.numbers["real_accuracy"] > 0.99 < won.numbers["fake_accuracy"]
    assert won.numbers["sensitivity"] < 0.05
    # In the corner of tanh all samples are alike, which is also a collapse if the run stays there long enough.
    assert set(states(found)) <= {"discriminator_won", "supports_disjoint", "mode_collapse"}
    assert ("supports_disjoint" in states(found)) == (loss == "non_saturating")


BLIND = {
    "learning rate 0": {"g_lr": 0.0, "d_lr": 0.0},
    "absurd penalty": {"penalties": R1(1e4)},
    "too much noise": {"noise": 50.0},
}


@pytest.mark.parametrize("name", BLIND)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_discriminator_that_learns_nothing(name, seed):
    found, _ = train_monitored(trainer_for(ring, seed, **BLIND[name]), ring, seed, 270, every=2)
    blind = [diagnosis for diagnosis in found if diagnosis.state is State.DISCRIMINATOR_BLIND]
    assert len(blind) == 1, found
    assert blind[0].numbers["loss"] == pytest.approx(2 * math.log(2), abs=0.2)
    assert blind[0].numbers["energy"] > 0.2
    # A generator that gets no useful gradient does not cover the data either.
    assert set(states(found)) <= {"discriminator_blind", "mode_collapse"}


@pytest.mark.parametrize("loss", ["minimax", "wasserstein"])
def test_the_dirac_gan_oscillates_with_the_theoretical_period(loss):
    """psi and theta rotate by half the learning rate per step, with the critic's loss by the whole one (Mescheder et
    al. 2018: eigenvalues ±i/2 and ±i), and the logit, their product, oscillates twice per rotation."""
    lr = 0.15
    trainer = dirac(loss, lr, theta=0.7)
    found, _ = train_monitored(trainer, zeros, 0, 420, batch=8, every=2)
    (diagnosis,) = found
    assert diagnosis.state is State.OSCILLATION
    theory = (2 if loss == "minimax" else 1) * math.pi / lr
    assert diagnosis.numbers["period"] == pytest.approx(theory, rel=0.08)
    assert diagnosis.numbers["amplitude"] == pytest.approx(0.7**2 / 2, rel=0.15)


def test_a_converging_dirac_gan_is_not_an_oscillation():
    trainer = dirac("minimax", 0.1, theta=0.7, penalties=R1(0.1))
    assert train_monitored(trainer, zeros, 0, 420, batch=8, every=2)[0] == []


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_mode_collapse(seed):
    """A generator that is faster than its discriminator moves from mode to mode of the ring, and never covers it."""
    trainer = trainer_for(ring, seed, g_lr=1e-2, d_lr=1e-3, betas=(0.5, 0.999))
    found, monitor = train_monitored(trainer, ring, seed, 360, every=2)
    (collapse,) = [diagnosis for diagnosis in found if diagnosis.state is State.MODE_COLLAPSE]
    assert collapse.numbers["diversity"] < 0.45
    assert State.MODE_COLLAPSE in monitor.states
    # Confirm the collapse: all samples are nearest to at most half of the modes.
    angle = torch.arange(8) * (2 * math.pi / 8)
    modes = torch.stack([angle.cos(), angle.sin()], 1)
    assert len(torch.cdist(trainer.sample(500), modes).argmin(1).unique()) <= 4


def test_noise_is_applied_and_fixes_disjoint_supports():
    """The run of test_disjoint_supports, with a monitor that can add noise."""
    noise = pygan.InstanceNoise(Constant(3.0), seed=0)
    trainer = strong_discriminator(0)
    found, monitor = train_monitored(trainer, far, 0, 400, every=2, noise=noise)
    first = found[0]
    assert first.state is State.SUPPORTS_DISJOINT
    assert "instance noise" in first.action
    assert trainer.noise is noise
    assert State.SUPPORTS_DISJOINT not in monitor.states


def test_the_users_noise_is_not_replaced():
    own, other = (pygan.InstanceNoise(Constant(0.01), seed=0) for _ in range(2))
    trainer = strong_discriminator(0, noise=own)
    found, _ = train_monitored(trainer, far, 0, 150, every=2, noise=other)
    assert states(found) == ["supports_disjoint"]
    assert trainer.noise is own
    assert found[0].action == ""


@pytest.mark.parametrize("every", [1, 5])
def test_nan_in_the_data(every):
    trainer, batches = trainer_for(ring, 0), iter(range(1, 100))

    def poisoned(n, generator):
        x = ring(n, generator)
        if next(batches) == 7:
            x[3, 1] = math.nan
        return x

    (diagnosis,), monitor = train_monitored(trainer, poisoned, 0, 20, every=every)
    assert (diagnosis.state, diagnosis.step) == (State.NON_FINITE, 7)
    assert diagnosis.numbers["origin"] == "data"
    assert diagnosis.numbers["nonfinite"] == 1
    assert diagnosis.numbers["parameters"][0].startswith("D.")
    assert State.NON_FINITE in monitor.states


@pytest.mark.parametrize("network", ["discriminator", "generator"])
def test_an_exploding_learning_rate(network):
    """From step 5 on, the learning rate of one network is absurd: that network is named, although both are soon NaN."""
    trainer = trainer_for(ring, 0)
    optimizer = torch.optim.SGD(getattr(trainer, network).parameters(), lr=1e-3)
    setattr(trainer, network[0] + "_optimizer", optimizer)

    def explode(step):
        if step == 5:
            optimizer.param_groups[0]["lr"] = 1e30

    (diagnosis,), _ = train_monitored(trainer, ring, 0, 20, before_step=explode, every=5)
    assert diagnosis.state is State.NON_FINITE
    assert diagnosis.numbers["origin"] == network
    assert diagnosis.step in (5, 6)
    assert diagnosis.numbers["parameters"]


@pytest.mark.parametrize("seed", [0, 1])
def test_an_equilibrium_is_not_a_blind_discriminator(seed):
    """A run at D = 1/2 because the samples are right: generator and data have the same distribution from the start."""

    def networks():
        generator = nn.Linear(2, 2)
        nn.init.eye_(generator.weight)
        nn.init.zeros_(generator.bias)
        return generator, mlp(2, 1, activation=leaky)

    def normal(n, generator):
        return torch.randn(n, 2, generator=generator)

    trainer = trainer_for(normal, seed, latent=2, networks=networks, penalties=R1(1.0))
    found, monitor = train_monitored(trainer, normal, seed, 300, every=2)
    assert found == []
    window = monitor._window
    assert abs(window.mean("jsd_bound")) < 0.02  # by the loss alone, it would look blind


def test_noise_annealed_to_zero_raises_no_alarm():
    trainer = trainer_for(digits, 0, noise=Linear(0.5, 0.0, 200))
    assert train_monitored(trainer, digits, 0, 300)[0] == []
