"""Tiny runs of `pygan train`, for what is made of them afterwards."""

from helpers import accelerated_on

from pygan.training import config
from pygan.training.command import train

TINY = ["model.width=4", "train.progress=false", "train.tensorboard=false", "train.steps=2"]
SETTINGS = {"ring": ["data.samples=500"], "grid": ["data.samples=500"], "digits": []}


def trained(data, out, *settings):
    """A run of two steps; its FitResult."""
    overrides = {}
    for given in (*TINY, *SETTINGS.get(data, []), *settings):
        config.override(overrides, given)
    with accelerated_on("cpu"):
        return train(config.load(str(data), None, overrides), out)
