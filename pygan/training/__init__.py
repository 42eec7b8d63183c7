"""Training runs: ``pygan.fit`` and its components."""

from pygan.training.fit import FitResult, fit
from pygan.training.fit_options import FitOptions

__all__ = ["FitOptions", "FitResult", "fit"]
