"""`pygan eval`: what a run's generator makes, against data.

pygan eval runs/ring
pygan eval runs/photos --data held-out/ --n 2000 --out scores.json
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pygan import metrics
from pygan.checkpoint import writing
from pygan.result import arguments as shared
from pygan.result.features import CHOICES, Features, features
from pygan.result.generator import TrainedGenerator
from pygan.training.config import DataTable
from pygan.training.sources import source

__all__ = ["add_parser"]

_MOST = 5000


def add_parser(commands: Any) -> None:
    """Adds the command to those of `python -m pygan`."""
    parser = commands.add_parser(
        "eval",
        help="judge a trained generator",
        description="Fréchet distance, and improved precision and recall (Kynkäänniemi et al. 2019, k = 3), of "
        "features of generated samples and of data; of data whose modes are known, those that are covered. Figures "
        "compare only where n and the features are the same.",
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
        help="inception: of the FID, with torch-fidelity and its weights; random-conv: of convolutions with random "
        "weights; values: the samples themselves (default: the first that is there for images from 32 pixels on, "
        "from 16 on, for all else)",
    )
    shared.add_drawing(parser)
    add("--out", type=Path, help="JSON file")
    add("--force", action="store_true", help="replace what is there")
    parser.set_defaults(run=lambda arguments: shared.carried_out("eval", lambda: run(arguments)))


def run(arguments: argparse.Namespace) -> None:
    """Carries out the command."""
    out: Path | None = arguments.out
    if out is not None:
        shared.refuse_existing(out, arguments.force)
    generator = shared.load(arguments)
    table = DataTable(**generator.config["data"])
    own = arguments.data in (None, table.name)
    if not own:
        table = replace(table, name=arguments.data)
    what = source(table, arguments.seed)
    if tuple(what.shape) != generator.sample_shape:
        raise ValueError(
            f"--data must have samples of the run's shape, {generator.sample_shape}, got {tuple(what.shape)}"
        )
    n = arguments.n or min(len(what.data), _MOST)
    n_real = min(n, len(what.data))
    least = 4  # of which each has three others
    if n_real < least:
        raise ValueError(f"--n, and the data's samples, must be at least {least}, got {n_real}")
    device = next(generator.parameters()).device
    by = features(arguments.features, generator.sample_shape, device)
    reals = (
        x / generator.scale for x in _reals(what.data, n_real, arguments.seed, arguments.batch)
    )
    found = _judged(by, reals, _fakes(generator, n, arguments), device)
    if own and what.evaluate is not None:
        # In the units of the networks, which it expects.
        found |= what.evaluate(
            lambda m: torch.cat(list(_fakes(generator, m, arguments))) * generator.scale
        )
    about = {
        "run": str(arguments.folder),
        "step": generator.step,
        "averaged": generator.averaged,
        "seed": arguments.seed,
        "truncation": arguments.truncation,
        "data": table.name,
        "n": n,
        "n_real": n_real,
        "features": by.name,
    }
    if out is not None:
        _write(out, {**about, **found})
    _print(about, found)


def _judged(
    by: Features, reals: Iterable[Tensor], fakes: Iterable[Tensor], device: torch.device
) -> dict[str, Any]:
    with torch.no_grad():
        a, b = (torch.cat([by.of(x.to(device)).cpu() for x in each]) for each in (reals, fakes))
    return {
        "frechet_distance": metrics.frechet_distance(a, b),
        **metrics.precision_recall(a, b)._asdict(),
    }


def _fakes(generator: TrainedGenerator, n: int, arguments: argparse.Namespace) -> Iterator[Tensor]:
    labels = shared.labels_of(generator, arguments.label, n)
    batches = generator.batches(n, labels, arguments.seed, arguments.truncation, arguments.batch)
    return (batch.float().cpu() for batch in batches)


def _reals(data: Any, n: int, seed: int, size: int) -> Iterator[Tensor]:
    """n of the data's samples in batches, chosen at random where there are more."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:n]
    for first in range(0, n, size):
        some = order[first : first + size]
        items = data[some] if isinstance(data, Tensor) else [data[i] for i in some.tolist()]
        if not isinstance(items, Tensor):  # of a Dataset: samples, or pairs of a sample and a label
            items = torch.stack([x[0] if isinstance(x, (tuple, list)) else x for x in items])
        yield items.float()


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
