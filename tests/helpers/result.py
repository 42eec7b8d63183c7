"""Tiny runs of `pygan train`, and the commands that use their results."""

import numpy as np
import torch
from torch import nn

import pygan
from helpers import accelerated_on
from pygan import __main__
from pygan.training import config
from pygan.training.command import train

TINY = ["model.width=4", "train.progress=false", "train.tensorboard=false", "train.steps=2"]
SETTINGS = {"ring": ["data.samples=500"], "grid": ["data.samples=500"], "digits": []}


def trained(data, out, *settings):
    """The FitResult of a two-step run."""
    overrides = {}
    for given in (*TINY, *SETTINGS.get(data, []), *settings):
        config.override(overrides, given)
    with accelerated_on("cpu"):
        return train(config.load(str(data), None, overrides), out)


def pictures(folder, n, size):
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(n):
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(
            folder / f"{i}.png"
        )
    return folder


def command(*given):
    return __main__.main([str(one) for one in given])


def read(path):
    from PIL import Image

    return np.asarray(Image.open(path))


def conditional(classes):
    """A loaded generator whose samples are the number of their class."""

    class Numbers(nn.Module):
        def __init__(self):
            super().__init__()
            self.zero = nn.Parameter(torch.zeros(()))

        def forward(self, latent, labels):
            pixels = (labels / 10).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8)
            return pixels + self.zero * latent.sum(1).reshape(-1, 1, 1, 1)

    state = {"run": {"latent": 3}, "samples": {"shape": [1, 8, 8], "conditional": True}, "step": 4}
    config = {} if classes is None else {"classes": classes}
    return pygan.TrainedGenerator(Numbers(), {**state, "config": config}, averaged=False)
