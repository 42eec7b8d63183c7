"""Fused GAN losses and instance noise for PyTorch.

``pygan.fused_losses`` holds the discriminator and generator losses, ``pygan.instance_noise`` the noise,
``pygan.GANTrainer`` the two steps of a GAN's training, ``pygan.fit`` a whole run, ``pygan.Monitor`` what goes wrong in
one, ``pygan.divergences`` the theory's distances, ``pygan.reference`` the ops in plain PyTorch, and
``pygan.build_info()`` says what this build is and what runs.
"""

import torch  # before _C, which uses torch's libraries without linking to their folders

__version__ = "0.1.0"

from pygan._build import build_info, check_build

check_build()

from pygan import (  # noqa: E402
    checkpoint,
    datasets,
    divergences,
    fused_losses,
    metrics,
    penalties,
    reference,
    schedules,
)
from pygan.average import EMA  # noqa: E402
from pygan.modules import InstanceNoise  # noqa: E402
from pygan.monitor import Monitor  # noqa: E402
from pygan.noise import instance_noise, instance_noise_pair  # noqa: E402
from pygan.stream import NoiseStream  # noqa: E402
from pygan.trainer import GANTrainer  # noqa: E402
from pygan.training.fit import fit  # noqa: E402

__all__ = [
    "EMA",
    "GANTrainer",
    "InstanceNoise",
    "Monitor",
    "NoiseStream",
    "__version__",
    "build_info",
    "checkpoint",
    "datasets",
    "divergences",
    "fit",
    "fused_losses",
    "instance_noise",
    "instance_noise_pair",
    "metrics",
    "penalties",
    "reference",
    "schedules",
]
del torch
