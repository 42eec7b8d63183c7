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
from pygan.training.config import DataTable
from pygan.training.config_tables import check_data_exist
from pygan.training.metric_names import metric_lines
from pygan.training.sources import distances, source

__all__ = ["add_arguments"]

_MOST = 5000
_LEAST = 6  # so that each sample has five others


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.description = (
        "Fréchet distance, improved precision and recall (Kynkäänniemi et al. 2019, k = 3), and coverage (Naeem et "
        "al. 2020, k = 5), of features of generated samples and of data; for data with known modes, also how many of "
        "them are covered. Numbers are comparable only for the same n and the same features."
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
    shared.add_sampling(parser)
    add("--out", type=Path, help="JSON file")
    add("--force", action="store_true", help="replace what is there")
    parser.set_defaults(run=lambda arguments: shared.run_command("eval", lambda: run(arguments)))


@torch.no_grad()
def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    out: Path | None = arguments.out
    if out is not None:
        shared.refuse_existing(out, arguments.force)
    generator = shared.load(arguments)
    given = generator.config["data"]
    own = arguments.data in (None, given["name"])
    if not own:  # without keys of the run's kind of data, and without its classes
        kept = DataTable(arguments.data).effective() - {"name", "labels"}
        given = {k: v for k, v in given.items() if k in kept} | {"name": arguments.data}
    check_data_exist("--data", given["name"])
    try:
        data_source = source(DataTable(**given), arguments.seed)
    except TypeError as error:  # a key from another version
        raise ValueError(f"the run's [data] must be valid in this version: {error}") from None
    if tuple(data_source.shape) != generator.sample_shape:
        raise ValueError(
            f"--data must have samples of the run's shape, {generator.sample_shape}, got {tuple(data_source.shape)}"
        )
    pairs = isinstance(data_source.data, (tuple, list))  # tensors of samples and labels
    size = len(data_source.data[0] if pairs else data_source.data)
    n = arguments.n or min(size, _MOST)
    n_real = min(n, size)
    if n_real < _LEAST:
        raise ValueError(
            f"--n and the number of samples in the data must be at least {_LEAST}, got {n_real}"
        )
    device = next(generator.parameters()).device
    extractor = features(arguments.features, generator.sample_shape, device, data_source.features)
    real, labels = _real_features(extractor, data_source.data, n_real, generator, arguments)

    def batches(n: int) -> Iterator[Tensor]:
        its = labels if labels is None else labels[torch.arange(n) % len(labels)]
        return generator.batches(n, its, arguments.seed, arguments.truncation, arguments.batch)

    fake = torch.cat([extractor.compute(x).cpu() for x in batches(n)])
    found: dict[str, Any] = distances(real, fake)
    if own and data_source.protocol is not None:
        # The evaluation expects samples in the units of the networks.
        samples = torch.cat([x.float().cpu() for x in batches(data_source.protocol_samples)])
        found |= data_source.protocol(samples * generator.scale)
    about = {
        "run": str(arguments.folder),
        "step": generator.step,
        "averaged": generator.averaged,
        "seed": arguments.seed,
        "truncation": arguments.truncation,
        "data": given["name"],
        "n": n,
        "n_real": n_real,
        "features": extractor.name,
    }
    if out is not None:
        _write(out, {**about, **found})
    _print(about, found)
    shared.warn_if_early(generator)


def _real_features(
    extractor: Features,
    data: Any,
    n: int,
    generator: TrainedGenerator,
    arguments: argparse.Namespace,
) -> tuple[Tensor, Tensor | None]:
    """Features of n of the data's samples, a random subset if there are more; and labels for as many generated samples:
    those of the data, or all labels in turn if the data have none."""
    device = next(generator.parameters()).device
    found, labels = [], []
    with torch.random.fork_rng(devices=[]):  # a Dataset may draw random numbers
        torch.manual_seed(arguments.seed)
        order = torch.randperm(len(data[0]) if isinstance(data, (tuple, list)) else len(data))[:n]
        for first in range(0, n, arguments.batch):
            samples, its = _items(data, order[first : first + arguments.batch])
            found.append(extractor.compute(samples.to(device).float() / generator.scale).cpu())
            labels += [] if its is None else [its]
    if not generator.conditional:
        return torch.cat(found), None
    return torch.cat(found), torch.cat(labels) if labels else shared.labels_of(generator, None, n)


def _items(data: Any, indices: Tensor) -> tuple[Tensor, Tensor | None]:
    """Samples and, if there are any, labels from a tensor, a pair of tensors, or a Dataset."""
    if isinstance(data, Tensor):
        return data[indices], None
    if isinstance(data, (tuple, list)):
        return data[0][indices], data[1][indices]
    items = [data[i] for i in indices.tolist()]
    if not isinstance(items[0], (tuple, list)):
        return torch.stack(items), None
    samples, labels = zip(*items, strict=True)
    return torch.stack(samples), torch.as_tensor(labels)


def _write(out: Path, found: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.tmp")
    with writing(out):
        # Infinite divergences become strings, because JSON has no infinity.
        strict = {k: v if v != float("inf") else "Infinity" for k, v in found.items()}
        unfinished.write_text(json.dumps(strict, indent=2, allow_nan=False) + "\n")
        os.replace(unfinished, out)


def _print(about: dict[str, Any], found: dict[str, Any]) -> None:
    which = "average" if about["averaged"] else "generator"
    print(
        f"{about['run']}, {which} of step {about['step']}: {about['n']} samples, seed {about['seed']}, against "
        f"{about['n_real']} of {about['data']}\nfeatures: {about['features']}"
    )
    print(*metric_lines(found), sep="\n")
