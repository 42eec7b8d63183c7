"""Fused GAN losses and instance noise for PyTorch.

* ``pygan.fused_losses``: the discriminator and generator losses; ``pygan.DiscriminatorLoss``, ``GeneratorLoss`` and
  ``GANLoss`` are the same losses as modules.
* ``pygan.instance_noise`` and ``pygan.InstanceNoise``: instance noise, as an op and as a module with a schedule.
* ``pygan.GANTrainer``: the two steps of GAN training, for your own loop. ``pygan.fit``: a whole training run, with
  ``pygan.FitOptions`` and ``pygan.Callback``; ``pygan.load_generator`` loads the trained generator.
* ``pygan.Monitor``: detects training problems. ``pygan.divergences``: divergences between distributions.
* ``pygan.reference``: every op in plain PyTorch. ``pygan.build_info()``: what was built and which backends run.
"""

__version__ = "0.1.0"  # defined first, because submodules check that they belong to this package

from pygan._build import build_info  # isort: split

from pygan import (
    checkpoint,
    datasets,
    divergences,
    fused_losses,
    metrics,
    penalties,
    reference,
    schedules,
)
from pygan.average import EMA
from pygan.discriminators import Discriminators
from pygan.fake_pool import FakePool
from pygan.gan_loss import GANLoss
from pygan.loss_modules import DiscriminatorLoss, GeneratorLoss
from pygan.modules import InstanceNoise
from pygan.monitor import Monitor
from pygan.noise import instance_noise, instance_noise_pair
from pygan.result.generator import TrainedGenerator, load_generator
from pygan.stream import NoiseStream
from pygan.trainer import GANTrainer
from pygan.training.callbacks import Callback
from pygan.training.fit import fit
from pygan.training.fit_options import FitOptions

__all__ = [
    "EMA",
    "Callback",
    "DiscriminatorLoss",
    "Discriminators",
    "FakePool",
    "FitOptions",
    "GANLoss",
    "GANTrainer",
    "GeneratorLoss",
    "InstanceNoise",
    "Monitor",
    "NoiseStream",
    "TrainedGenerator",
    "__version__",
    "build_info",
    "checkpoint",
    "datasets",
    "divergences",
    "fit",
    "fused_losses",
    "instance_noise",
    "instance_noise_pair",
    "load_generator",
    "metrics",
    "penalties",
    "reference",
    "schedules",
]
