"""The monitor's rules on synthetic readings: what each finds, for which losses, and what it does not report."""

import math

import pytest
import torch
from helpers.trainer import assert_same

from pygan import fused_losses
from pygan.monitor import State, nonfinite
from pygan.monitor.reading import COLUMNS, STATS, Reading
from pygan.monitor.rules import RULES
from pygan.monitor.window import Window


@pytest.fixture(autouse=True)
def one_thread(restore):
    torch.set_num_threads(1)


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
def test_origin_of_non_finite_values(values, parameters, origin):
    found = nonfinite.find(reading(5, parameters, **values))
    assert (found.state, found.step, found.numbers["origin"]) == (State.NON_FINITE, 5, origin)
    assert origin in found.evidence
    assert all(name in found.evidence for name in parameters)


def test_finite_readings_give_no_diagnosis():
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


def held(window, before=(), ends_in_sigmoid=False):
    window.ends_in_sigmoid = ends_in_sigmoid
    return {state for state, rule in RULES.items() if rule(window, state in before) is not None}


WRONG = {
    State.SUPPORTS_DISJOINT: {"jsd_bound": 0.69},
    State.DISCRIMINATOR_WON: {"real_accuracy": 1.0, "fake_accuracy": 1.0, "g_grad": 1e-3},
    State.DISCRIMINATOR_BLIND: {"energy": 0.4, "real_logit": 0.01},
    State.GENERATOR_SATURATED: {"d_fake_after": 0.01},
    State.OSCILLATION: {"real_logit": lambda step: math.sin(step)},
    State.MODE_COLLAPSE: {"fake_number": lambda step: 8.0 if step < 30 else 1.0},
    State.COLLAPSE_WITHIN_LABELS: {
        "label_real_number": 40.0,
        "label_fake_number": 1.0,
        "label_energy": 0.3,
    },
}


@pytest.mark.parametrize("loss", [*fused_losses.LOSSES, object()])
@pytest.mark.parametrize("state", WRONG)
def test_each_rule_finds_its_state_for_its_losses(loss, state):
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
        State.COLLAPSE_WITHIN_LABELS: True,
    }
    assert held(window_of(loss, **values)) == ({state} if applies[state] else set())
    assert held(window_of(loss, **healthy)) == set()


@pytest.mark.parametrize("loss", [*fused_losses.LOSSES, object()])
def test_a_final_sigmoid_is_found_unless_the_loss_allows_it(loss):
    """Only this state, although the discriminator is also blind, and seems to be right about every real sample."""
    blind = dict(energy=0.4, jsd_bound=0.0, real_logit=0.02, fake_logit=0.01, real_accuracy=1.0)
    blind["d_fake_after"] = 0.5
    found = held(window_of(loss, d_loss=1.39, **blind), ends_in_sigmoid=True)
    if loss in fused_losses.LOSSES and loss != "least_squares":
        assert found == {State.SIGMOID_OUTPUT}
    else:
        assert State.SIGMOID_OUTPUT not in found
    # A slow discriminator with a positive bias has the same statistics.
    assert State.SIGMOID_OUTPUT not in held(window_of(loss, d_loss=1.39, **blind))


def test_slow_progress_is_not_blindness_or_collapse():
    """Real and generated samples differ and the discriminator hardly distinguishes them, but they come closer."""
    values = {"jsd_bound": 0.001, "real_logit": 0.02, "fake_number": 1.0}
    assert held(window_of(energy=0.4, **values)) == {State.DISCRIMINATOR_BLIND, State.MODE_COLLAPSE}
    assert held(window_of(energy=lambda step: 0.4 * math.exp(-step / 150), **values)) == set()


def test_a_transient_swing_is_not_an_oscillation():
    def gap(step):
        return math.sin(step) * (step > 32)

    assert held(window_of(windows=4, jsd_bound=0.1, real_logit=gap)) == set()
    assert held(window_of(windows=5, jsd_bound=0.1, real_logit=gap)) == {State.OSCILLATION}


def test_missing_measures_give_no_finding_and_hide_none():
    """Small last batches have no diversity, and a gradient scaler's first gradients are infinite."""
    window = window_of(
        fake_number=lambda step: math.nan if step % 5 == 0 else 4.0,
        g_grad=lambda step: math.nan if step % 7 == 0 else 2.0,
    )
    assert window.diversity() == pytest.approx(0.5)
    assert window.sensitivity() == pytest.approx(20)
    assert math.isnan(window_of(fake_number=math.nan).diversity())


def test_typical_logit_magnitude():
    """From the loss and the mean logits: the |a| for which log cosh(a/2) equals its mean."""
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


def test_the_window_stores_what_the_rules_need():
    window = window_of(windows=13, jsd_bound=lambda step: float(step))
    assert window.step == 13 * 16
    assert window.steps == 16
    assert window.mean("jsd_bound") == pytest.approx(13 * 16 - 7.5)
    assert window.mean("jsd_bound", windows_ago=3) == pytest.approx(10 * 16 - 7.5)


def test_a_window_continues_from_its_state():
    """The extremes may be those of windows that are no longer kept."""
    window = window_of(
        windows=7,
        g_grad=lambda step: 1.0 / step,
        fake_number=lambda step: 8.0 if step < 30 else 1.0,
    )
    assert window.best_diversity > 7 * window.diversity()
    assert window.peak_sensitivity > 7 * window.sensitivity()
    again = Window(window.size, window.loss)
    again.load_state_dict(window.state_dict())
    assert_same(again.state_dict(), window.state_dict())
    assert again.step == window.step and held(again) == held(window) != set()
