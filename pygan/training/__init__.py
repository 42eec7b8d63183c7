"""Training runs: ``pygan.fit`` and what it consists of."""

from pygan.training.fit import FitResult, fit

__all__ = ["FitResult", "fit"]
