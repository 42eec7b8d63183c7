"""`pygan eval`: compares a run's generated samples with data.

pygan eval runs/ring
pygan eval runs/photos --data held-out/ --n 2000 --out scores.json
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pygan.checkpoint import writing
from pygan.result import arguments as shared
from pygan.result.features import CHOICES, Features, features
from pygan.result.generator import TrainedGenerator
from pygan.training.config import ConfigError, DataTable
from pygan.training.sources import distances, source

__all__ = ["add_arguments"]

_MOST = 5000
_LEAST = 6  # of which each has five others


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Completes the parser of the command."""
    parser.description = (
        "Fréchet distance, improved precision and recall (Kynkäänniemi et al. 2019, k = 3), and coverage "
        "(Naeem et al. 2020, k = 5), of features of generated samples and of data; of data whose modes are known, "
        "those that are covered. Figures compare only where n and the features are the same."
    )
    shared.add_run(parser)
    add = parser.add_argument
    add("--data", help="as for pygan train (default: what the run was trained on)")
    add(
        "--n",
        type=shared.positive,
        help=f"samples of each (default: as many as the data have, but at most {_MOST})",
    )
    add(
        "--features",
        choices=CHOICES,
        help="classifier: of mnist and stacked-mnist, what reads their digits; inception: of the FID, with "
        "torch-fidelity and its weights; random-conv: of convolutions with random weights; values: the samples "
        "themselves (default: the first that is there, of inception for images from 32 pixels on, of random-conv "
        "from 16 on)",
    )
    shared.add_drawing(parser)
    add("--out", type=Path, help="JSON file")
    add("--force", action="store_true", help="replace what is there")
    parser.set_defaults(run=lambda arguments: shared.carried_out("eval", lambda: run(arguments)))


@torch.no_grad()
def run(arguments: argparse.Namespace) -> None:
    """Carries out the command."""
    out: Path | None = arguments.out
    if out is not None:
        shared.refuse_existing(out, arguments.force)
    generator = shared.load(arguments)
    given = generator.config["data"]
    own = arguments.data in (None, given["name"])
    if not own:  # which need not have the classes
        given = {k: v for k, v in given.items() if k != "labels"} | {"name": arguments.data}
    try:
        what = source(DataTable(**given), arguments.seed)
    except ConfigError as error:
        reason = str(error).replace("pygan train: [data] name", "--data")
        raise ValueError(reason) from None
    except TypeError as error:  # a key that this version does not know
        raise ValueError(f"the run must have a [data] of this version's: {error}") from None
    if tuple(what.shape) != generator.sample_shape:
        raise ValueError(
            f"--data must have samples of the run's shape, {generator.sample_shape}, got {tuple(what.shape)}"
        )
    pairs = isinstance(what.data, (tuple, list))  # samples and labels, tensors
    size = len(what.data[0] if pairs else what.data)
    n = arguments.n or min(size, _MOST)
    n_real = min(n, size)
    if n_real < _LEAST:
        raise ValueError(f"--n, and the data's samples, must be at least {_LEAST}, got {n_real}")
    device = next(generator.parameters()).device
    by = features(arguments.features, generator.sample_shape, device, what.features)
    real, labels = _real_features(by, what.data, n_real, generator, arguments)

    def batches(n: int) -> Iterator[Tensor]:
        its = labels if labels is None else labels[torch.arange(n) % len(labels)]
        return generator.batches(n, its, arguments.seed, arguments.truncation, arguments.batch)

    fake = torch.cat([by.of(x).cpu() for x in batches(n)])
    found: dict[str, Any] = distances(real, fake)
    if own and what.judge is not None:
        # In the units of the networks, which it expects.
        samples = torch.cat([x.float().cpu() for x in batches(what.judged)])
        found |= what.judge(samples * generator.scale)
    about = {
        "run": str(arguments.folder),
        "step": generator.step,
        "averaged": generator.averaged,
        "seed": arguments.seed,
        "truncation": arguments.truncation,
        "data": given["name"],
        "n": n,
        "n_real": n_real,
        "features": by.name,
    }
    if out is not None:
        _write(out, {**about, **found})
    _print(about, found)
    shared.say_if_early(generator)


def _real_features(
    by: Features, data: Any, n: int, generator: TrainedGenerator, arguments: argparse.Namespace
) -> tuple[Tensor, Tensor | None]:
    """Features of n of the data's samples, chosen at random where there are more; and the labels for as many generated
    ones, those of the data or, where these have none, all in turn."""
    device = next(generator.parameters()).device
    found, labels = [], []
    with torch.random.fork_rng(devices=[]):  # of which a Dataset may draw
        torch.manual_seed(arguments.seed)
        order = torch.randperm(len(data[0]) if isinstance(data, (tuple, list)) else len(data))[:n]
        for first in range(0, n, arguments.batch):
            samples, its = _items(data, order[first : first + arguments.batch])
            found.append(by.of(samples.to(device).float() / generator.scale).cpu())
            labels += [] if its is None else [its]
    if not generator.conditional:
        return torch.cat(found), None
    return torch.cat(found), torch.cat(labels) if labels else shared.labels_of(generator, None, n)


def _items(data: Any, some: Tensor) -> tuple[Tensor, Tensor | None]:
    """Samples, and labels if there are any, of a tensor, a pair of them, or a Dataset."""
    if isinstance(data, Tensor):
        return data[some], None
    if isinstance(data, (tuple, list)):
        return data[0][some], data[1][some]
    items = [data[i] for i in some.tolist()]
    if not isinstance(items[0], (tuple, list)):
        return torch.stack(items), None
    samples, labels = zip(*items, strict=True)
    return torch.stack(samples), torch.as_tensor(labels)


def _write(out: Path, found: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.tmp")
    with writing(out):
        # An infinite divergence is a string, for JSON has none.
        strict = {k: v if v != float("inf") else "Infinity" for k, v in found.items()}
        unfinished.write_text(json.dumps(strict, indent=2, allow_nan=False) + "\n")
        os.replace(unfinished, out)


def _print(about: dict[str, Any], found: dict[str, Any]) -> None:
    which = "average" if about["averaged"] else "generator"
    print(
        f"{about['run']}, {which} of step {about['step']}: {about['n']} samples, seed {about['seed']}, against "
        f"{about['n_real']} of {about['data']}\nfeatures: {about['features']}"
    )
    for name, value in found.items():
        print(f"  {name:<18}{value:.4g}")
