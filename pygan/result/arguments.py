"""The shared arguments of `pygan sample`, `export` and `eval`."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from pygan.checkpoint import CheckpointError
from pygan.result.generator import TrainedGenerator, load_generator
from pygan.training.checkpoint_files import find_checkpoint
from pygan.training.run_samples import MAX_INITIAL_WEIGHT

__all__ = [
    "add_run",
    "add_sampling",
    "labels_of",
    "load",
    "non_negative",
    "positive",
    "refuse_existing",
    "run_command",
]

_FUNCTION = re.compile(r"^pygan\.[\w.]+: ")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that select a run and its weights."""
    add = parser.add_argument
    add("folder", metavar="RUN", help="folder of a run of pygan train, or a checkpoint")
    add("--checkpoint", help="number of a step, or name of a checkpoint in RUN (default: newest)")
    add("--no-average", action="store_true", help="take the generator itself, not its average")


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for drawing samples."""
    add = parser.add_argument
    add("--seed", type=non_negative, default=0, help="of the latents (default: 0)")
    add(
        "--truncation",
        type=float,
        default=1.0,
        metavar="PSI",
        help="factor of the latents: 1 samples as trained; less, to 0, is an interpolation toward the mean latent, as "
        "StyleGAN's truncation of w: less variety, usually better single samples (BigGAN's draws large values again)",
    )
    add("--device", help="cpu, cuda, ... (default: cuda where there is one)")
    add("--batch", type=positive, default=64, help="samples at a time (default: 64)")


def load(arguments: argparse.Namespace) -> TrainedGenerator:
    """Load the selected generator onto the device; onto the CPU for a command that draws no samples."""
    file = find_checkpoint(arguments.folder, arguments.checkpoint)
    generator = load_generator(file, average=not arguments.no_average)
    name = getattr(arguments, "device", "cpu")
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return generator.to(torch.device(name))
    except (RuntimeError, AssertionError) as error:  # raised by torch for unavailable devices
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device must be one that torch has, got {name}: {reason}") from None


def warn_if_early(generator: TrainedGenerator) -> None:
    """Warn if the initial weights still account for much of an average."""
    decay = generator.config.get("train", {}).get("ema")
    if generator.averaged and decay and (share := decay**generator.step) > MAX_INITIAL_WEIGHT:
        print(
            f"the initial weights still make up {share:.0%} of the average; --no-average uses the generator's own",
            file=sys.stderr,
        )


def labels_of(generator: TrainedGenerator, label: str | None, n: int) -> Tensor | None:
    """n labels: of the class with this name or number, or of all classes in turn; None for an unconditional run.

    Raises:
        ValueError: there is no such class, or the run's classes are unknown.
    """
    classes = generator.classes
    if not generator.conditional:
        if label is not None:
            raise ValueError(f"--class must be omitted for a run without classes, got {label!r}")
        return None
    if label is None:
        if classes is None:
            raise ValueError(
                '--class must be given, because the configuration of the run has no "classes", got none'
            )
        return torch.arange(n) % len(classes)
    if classes is not None and label in classes:
        return torch.full((n,), classes.index(label))
    if label.isdecimal() and (classes is None or int(label) < len(classes)):
        return torch.full((n,), int(label))
    known = "a number" if classes is None else f"one of {', '.join(classes)}, or its number"
    raise ValueError(f"--class must be {known}, got {label!r}")


def refuse_existing(path: Path, force: bool) -> None:
    """Raise a FileExistsError if `path` is a file or a non-empty folder, unless `force` allows replacing it."""
    there = any(path.iterdir()) if path.is_dir() else path.exists()
    if there and not force:
        raise FileExistsError(f"--out must not exist yet, got {path}; --force replaces it")


def run_command(name: str, command: Callable[[], None]) -> int:
    """Run a command and return its exit status: 2, with a one-line message, for errors that the user can fix."""
    try:
        command()
    except BrokenPipeError:
        raise
    except (CheckpointError, OSError, ImportError, TypeError, ValueError) as error:
        if isinstance(error, TypeError) and not str(error).startswith(("pygan.", "--")):
            raise  # a bug: keep its traceback
        # The command's name replaces that of the Python function that the message begins with.
        print(f"pygan {name}: {_FUNCTION.sub('', str(error))}", file=sys.stderr)
        return 2
    return 0


def positive(text: str) -> int:
    return _at_least(text, 1, math.inf)


def non_negative(text: str) -> int:
    return _at_least(text, 0, 2**64)


def _at_least(text: str, least: int, below: float) -> int:
    if not text.isdecimal() or not least <= int(text) < below:
        raise argparse.ArgumentTypeError(f"must be an int of at least {least}, got {text}")
    return int(text)
