"""The check of [train], by what checks the arguments of `pygan.fit` and GANTrainer themselves."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import SGD

from pygan.trainer import GANTrainer
from pygan.training.config_values import ConfigError, check_arguments, check_known, check_range
from pygan.training.fit import fit
from pygan.training.options import Options

__all__ = ["check_train"]

# What the other tables or the command line say, and what no file can.
_SET_ELSEWHERE = {
    *("generator", "discriminator", "data", "g_optimizer", "d_optimizer", "latent", "noise"),
    *("penalties", "lr_schedulers", "out", "resume", "preview", "evaluate", "config", "scaler"),
    *("accelerator", "generator_inputs", "augment", "conditional", "allow_changes", "logits"),
    "trainer_options",
}
# Beyond it memory runs out, or the steps have no end.
_MOST = {"samples": 1 << 16, "workers": 1 << 10, "d_steps": 1 << 16, "micro_batches": 1 << 16}


def check_train(train: dict[str, Any]) -> None:
    """That `fit` will take the table.

    Raises:
        ConfigError: it will not; the message names the key.
    """
    of_fit, of_trainer = (inspect.signature(f).parameters for f in (fit, GANTrainer))
    for key in train:
        check_known("key of [train]", key, {*of_fit, *of_trainer} - _SET_ELSEWHERE)
    network, other = nn.PReLU(), nn.PReLU()  # with a parameter, and nothing drawn at random
    try:
        defaults = {k: p.default for k, p in of_fit.items() if k in Options.__dataclass_fields__}
        given = {k: v for k, v in train.items() if k in of_fit}
        check_arguments("[train]", Options, {**defaults, **given})
        Options(**{**defaults, "out": Path(), **given})
        given = {k: v for k, v in train.items() if k in of_trainer}
        call = {"generator": network, "discriminator": other, "latent": 1, "seed": 0, **given}
        call |= {f"{n}_optimizer": SGD(p.parameters()) for n, p in (("g", network), ("d", other))}
        check_arguments("[train]", GANTrainer, call)
        GANTrainer(**call)
    except (TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        # Without the name of the function, by which a message begins.
        raise ConfigError(f"[train] {str(error).split(': ', 1)[-1]}") from None
    for key, most in _MOST.items():
        if key in train:
            check_range(f"[train] {key}", train[key], 0 if key == "workers" else 1, most)
