"""Custom schedules with invalid values, and forged states."""

import math

import numpy as np
import pytest
import torch

from pygan.schedules import Adaptive, Constant, Linear, Schedule, Step


class OfOnesOwn(Schedule):
    """Returns a given value."""

    def __init__(self, values):
        self.values = values
        super().__init__()

    def value(self, count):
        return self.values[count]


@pytest.mark.parametrize("wrong", [-0.1, math.nan, math.inf, "0.5", None, torch.tensor(0.5)])
def test_a_custom_schedule_must_stay_in_range(wrong):
    message = r"^OfOnesOwn: value\({}\) must be a finite non-negative number, got "
    with pytest.raises(ValueError, match=message.format(0)):
        OfOnesOwn([wrong])
    schedule = OfOnesOwn([0.5, 0.25, wrong])
    schedule.step()
    for _ in range(2):
        with pytest.raises(ValueError, match=message.format(2)):
            schedule.step()
        assert (schedule.count, schedule.sigma.item()) == (1, 0.25)


def test_a_schedule_accepts_numpy_scalars():
    table = np.linspace(0.5, 0.0, 3, dtype=np.float32)
    assert [OfOnesOwn([value]).sigma.item() for value in table] == [0.5, 0.25, 0.0]
    assert Linear(table[0], table[1], 4).sigma == 0.5


def test_a_schedule_without_value_is_refused():
    class Nothing(Schedule):
        pass

    with pytest.raises(NotImplementedError, match=r"^Nothing: value\(count\) must be defined"):
        Nothing()


@pytest.mark.parametrize(
    ("state", "error", "must"),
    [
        ({}, TypeError, "extra state must be a dict with the key count"),
        (torch.ones(2), TypeError, "extra state must be a dict with the key count"),
        ({"count": -1}, ValueError, "count must be an int of at least 0"),
        ({"count": 1.5}, ValueError, "count must be an int of at least 0"),
        ({"count": True}, ValueError, "count must be an int of at least 0"),
    ],
)
@pytest.mark.parametrize(
    "schedule", [Constant(0.3), Linear(1.0, 0.1, 10), Adaptive(0.0, 1.0, 9)], ids=repr
)
def test_a_forged_state_is_refused(schedule, state, error, must):
    before = schedule.sigma.item()
    name = type(schedule).__name__
    saved = schedule.state_dict() | {"_extra_state": state}
    with pytest.raises(error, match=f"^{name}: {must}, got "):
        schedule.load_state_dict(saved)
    assert (schedule.count, schedule.sigma.item()) == (0, before)


@pytest.mark.parametrize(
    ("values", "milestones", "message"),
    [(0.5, [5], "values must be a sequence, got float"), ([1], 5, "milestones .* got int")],
)
def test_step_needs_sequences(values, milestones, message):
    with pytest.raises(TypeError, match="^Step: " + message):
        Step(values, milestones)
