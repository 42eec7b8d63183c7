"""Schedules: how the standard deviation of the instance noise changes over training.

    sigma = pygan.schedules.Linear(0.5, 0.0, steps=10_000)
    noise = pygan.InstanceNoise(sigma).to(device)
    for real in loader:
        stats = trainer.step(real)
        noise.step(stats.real_sign)  # or sigma.step(...); call it in your loop, like a learning-rate scheduler

`Constant`, `Linear`, `Cosine`, `Exponential` and `Step` depend on the step count. `Adaptive` and `DiffusionMixture`
respond to the discriminator: they need the statistic passed to `step` here, which the others ignore.

A schedule is a module whose 0-d float32 buffer `sigma` holds the current value on the device. `step()` overwrites it in
place, without a host synchronization. Compiled code sees a tensor instead of a Python float, so it does not recompile
when the value changes.

To write your own, derive from Schedule and define `value(count)`. docs/schedules.md explains which one to choose.
"""

from pygan.schedules.adaptive import Adaptive
from pygan.schedules.base import Schedule
from pygan.schedules.fixed import Constant, Cosine, Exponential, Linear, Step
from pygan.schedules.mixture import DiffusionMixture
from pygan.schedules.r1 import r1_for_sigma, sigma_for_r1

__all__ = [
    "Adaptive",
    "Constant",
    "Cosine",
    "DiffusionMixture",
    "Exponential",
    "Linear",
    "Schedule",
    "Step",
    "r1_for_sigma",
    "sigma_for_r1",
]
