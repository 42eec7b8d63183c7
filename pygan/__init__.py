"""Fused GAN losses and instance noise for PyTorch.

``pygan.fused_losses`` holds the discriminator and generator losses, ``pygan.DiscriminatorLoss``, ``GeneratorLoss`` and
``GANLoss`` the same as modules, ``pygan.instance_noise`` the noise, ``pygan.GANTrainer`` the two steps of a GAN's
training, ``pygan.fit`` a whole run, ``pygan.FitOptions`` its options and ``pygan.Callback`` what it calls,
``pygan.load_generator`` what it has trained, ``pygan.Monitor`` what goes wrong in one,
``pygan.divergences`` the theory's distances, ``pygan.reference`` the ops in plain PyTorch, and ``pygan.build_info()``
says what this build is and what runs.
"""

__version__ = "0.1.0"  # before the rest, which knows by it that this file is the one it belongs to

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
from pygan.training.options import FitOptions

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
