"""Checks of [train], using the argument checks of `pygan.fit` and GANTrainer."""

from __future__ import annotations

import re
import textwrap
from inspect import Parameter
from typing import Any

from torch import nn
from torch.optim import SGD

from pygan.trainer import GANTrainer
from pygan.training.config_objects import with_schedules
from pygan.training.config_values import (
    ConfigError,
    as_value,
    can_be_none,
    check_range,
    check_values,
    is_plain,
)
from pygan.training.fit_keywords import keywords, split
from pygan.training.fit_options import FitOptions
from pygan.training.option_docstrings import argument_texts, field_texts

__all__ = ["check_train", "train_help", "train_keys", "with_none"]

# Keywords that are set by other tables, by the command line or by the command itself.
_SET_ELSEWHERE = {"latent", "noise", "out", "resume", "allow_changes", "conditional", "data_keys"}
# Larger values would exhaust the memory, or never finish.
_MOST = {"samples": 1 << 16, "workers": 1 << 10, "d_steps": 1 << 16, "micro_batches": 1 << 16}


def train_keys() -> dict[str, Parameter]:
    """The keywords of `fit` that [train] may set: those whose values can be written in TOML."""
    return {
        name: parameter
        for name, parameter in keywords(eval_str=True).items()
        if name not in _SET_ELSEWHERE and is_plain(parameter)
    }


def train_help() -> str:
    """The keys with their defaults and the first sentence of their descriptions."""
    texts = {**argument_texts(GANTrainer), **field_texts(FitOptions)}
    lines = []
    for name, parameter in train_keys().items():
        has_default = parameter.default not in (None, Parameter.empty)
        default = f" ({as_value(parameter.default)})" if has_default else ""
        text = re.sub(r":\w+:(?=`)|`", "", texts.get(name, ""))
        text = re.split(r"[;:]|\.(?: [A-Z]|$)", text)[0]
        lines.append(f"  {name}{default}: {text}")
    return "\n".join(
        textwrap.fill(line, 78, subsequent_indent=6 * " ", break_on_hyphens=False) for line in lines
    )


def with_none(train: dict[str, Any]) -> dict[str, Any]:
    """The table with None for "none" where an argument may be None: so a file undoes what a recipe sets."""
    none = {name for name, parameter in train_keys().items() if can_be_none(parameter)}
    return {k: None if k in none and v == "none" else v for k, v in train.items()}


def check_train(train: dict[str, Any]) -> None:
    """Check that `fit` accepts the table.

    Raises:
        ConfigError: it does not; the message names the key.
    """
    check_values("[train]", train_keys(), train)
    # Modules with a parameter whose initialization is not random.
    network, other = (
        nn.PReLU(),
        nn.PReLU(),
    )
    optimizers = [SGD(net.parameters()) for net in (network, other)]
    try:
        options, of_trainer = split({**train, "out": "", "latent": 1})
        of_trainer = with_schedules("[train]", of_trainer, options.steps)
        GANTrainer(network, other, *optimizers, seed=0, **of_trainer)
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        # Messages begin with the name of the function, which is removed.
        raise ConfigError(f"[train] {str(error).split(': ', 1)[-1]}") from None
    for key, most in _MOST.items():
        if key in train:
            check_range(f"[train] {key}", train[key], 0 if key == "workers" else 1, most)
