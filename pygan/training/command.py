"""`pygan train`: a complete training run from the command line.

pygan train --data ring
pygan train --data photos/ --config run.toml --out runs/photos
torchrun --nproc-per-node 2 --no-python pygan train --data stacked-digits
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from pygan import checkpoint
from pygan._validation import counted
from pygan.checkpoint import CheckpointError
from pygan.training import config as configuration
from pygan.training.automatic_settings import threads
from pygan.training.checkpoint_settings import described_by
from pygan.training.config import Config, ConfigError
from pygan.training.config_changes import as_keys, check_keys, check_model
from pygan.training.config_tables import check_data_exist
from pygan.training.config_train import train_help
from pygan.training.config_values import first_line
from pygan.training.fit import FitResult, fit
from pygan.training.metric_names import metric_lines
from pygan.training.models import ARCHITECTURES
from pygan.training.progress import duration
from pygan.training.run_samples import MAX_INITIAL_WEIGHT, initial_share
from pygan.training.sources import Source, source

__all__ = ["add_arguments", "train"]


_DESCRIPTION = """\
Train a GAN on points, digits or a folder of images, by the recipe of the data
unless a file says otherwise. Ctrl-C or SIGTERM writes a checkpoint; --resume
continues."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    names = ", ".join(configuration.recipes())
    parser.description = _DESCRIPTION
    parser.epilog = f"Keys of [train], in the file or by --set train.KEY=VALUE:\n\n{train_help()}"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--data", help=f"{names}, or a folder of images")
    add("--config", type=Path, help="TOML file; its keys replace those of the recipe")
    add(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        help="replace one key, as train.batch_size=32",
    )
    add("--out", type=Path, help="folder for everything that is written (default: runs/DATA)")
    add("--seed", type=int, help="random seed (default: 0)")
    add("--steps", type=int, help="iterations (default: the recipe's)")
    add("--init-from", metavar="RUN", help="begin with the networks of another run")
    add("--resume", nargs="?", const="auto", metavar="CHECKPOINT", help="continue the run in --out")
    add(
        "--allow-changes",
        action="store_true",
        help="resume with a configuration or data that are not those of the checkpoint",
    )
    add("--print-config", action="store_true", help="show the configuration, and train nothing")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    try:
        config = _config(arguments)
        out = arguments.out or Path("runs") / Path(config.data.name).resolve().name
        resumed = {} if arguments.resume is None else _resumed(arguments.resume, out)
        if resumed:
            check_keys(resumed["model"])
            config = _config(arguments, resumed)
        if arguments.print_config:
            print(configuration.as_toml(config))
            return 0
        if resumed:
            check_model(config.model, resumed["model"])
        changes = arguments.allow_changes
        result = train(config, out, resume=arguments.resume, allow_changes=changes)
    except BrokenPipeError:
        raise
    except FloatingPointError as error:
        print(_as_options(error), file=sys.stderr)
        return 1
    except (CheckpointError, OSError, ImportError, ValueError) as error:
        print(_as_options(error), file=sys.stderr)
        return 2
    except TypeError as error:
        # A configuration value of the wrong type. Other errors are bugs, and keep their traceback.
        if not str(error).startswith(("pygan.fit: ", "GANTrainer: ")):
            raise
        print(_as_options(error), file=sys.stderr)
        return 2
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        # gloo's threads need Python's lock to release the last collective's tensors; one that asks for it while Python
        # exits aborts the process.
        time.sleep(0.3)
    if result.metrics:  # in the main process
        _report(result, out)
    return result.exit_code


def train(
    config: Config, out: Path, *, resume: str | None = None, allow_changes: bool = False
) -> FitResult:
    """Run the training that a configuration describes.

    Args:
        out: folder for all outputs.
        resume, allow_changes: see `pygan.fit`.
    """
    options = config.options()
    seed = options.pop("seed", 0)
    torch.manual_seed(seed)  # for the weights
    with _errors_of_table("[data]"):
        what = source(config.data, seed)
    model = dict(config.model)
    with _errors_of_table("[model]"):
        G, D = ARCHITECTURES[model.pop("architecture")](
            what.shape, classes=len(what.classes), **model
        )
    if config.machine.channels_last:
        net: Any  # memory_format has no annotation in some versions of torch
        for net in (G, D):
            net.to(memory_format=torch.channels_last)
    before = torch.get_num_threads()
    count = _threads(config, what, G, D)
    config = replace(config, data=what.table, machine=replace(config.machine, threads=count))
    if what.found and os.environ.get("RANK", "0") == "0":
        number = counted(count or before, "thread")
        where = "a GPU" if torch.cuda.is_available() else f"the CPU, {number}"
        print(f"pygan train: {what.found}, on {where}", file=sys.stderr)
    table, steps = config.optimizer, options["steps"]
    rates = (table.lr, table.lr if table.d_lr is None else table.d_lr)
    g_optimizer, d_optimizer = (
        torch.optim.Adam(
            net.parameters(),
            lr=lr,
            betas=(table.betas[0], table.betas[1]),
            fused=True,
            capturable=torch.cuda.is_available(),  # for [train] capture
        )
        for net, lr in zip((G, D), rates, strict=True)
    )

    factor = _Decay(table.decay_from, steps if table.decay_from < 1.0 else None)
    try:
        torch.set_num_threads(count or before)
        with described_by(partial(as_keys, tables=config.plain())):
            return fit(
                G,
                D,
                what.data,
                g_optimizer=g_optimizer,
                d_optimizer=d_optimizer,
                latent=config.model["latent"],
                lr_schedulers=[LambdaLR(o, factor) for o in (g_optimizer, d_optimizer)],
                out=out,
                seed=seed,
                noise=config.schedule(),
                penalties=config.penalty_list(),
                conditional=len(what.classes) > 0,
                preview=what.preview,
                evaluate=what.evaluate,
                resume=resume,
                allow_changes=allow_changes,
                config={**config.plain(), "classes": list(what.classes)},
                **options,
            )
    finally:
        torch.set_num_threads(before)


def _threads(config: Config, what: Source, G: nn.Module, D: nn.Module) -> int | None:
    """The number of CPU threads for the run; None: torch's default."""
    if config.machine.threads is not None or "OMP_NUM_THREADS" in os.environ:
        return config.machine.threads
    if config.model["architecture"] == "mlp":
        return 1
    if torch.cuda.is_available():
        return None
    n = config.train["batch_size"]
    labels = [torch.zeros(n, dtype=torch.int64)] * (len(what.classes) > 0)
    latents, samples = torch.zeros(n, config.model["latent"]), torch.zeros(n, *what.shape)
    return threads(G, D, [latents, *labels], [samples, *labels])


class _Decay:
    """The factor of the learning rates: 1, then after a share of the steps half a cosine down to 0. An object, because
    checkpoints save its attributes and detect when they have changed."""

    def __init__(self, decay_from: float, steps: int | None) -> None:
        self.decay_from, self.steps = decay_from, steps

    def __call__(self, step: int) -> float:
        if self.steps is None:
            return 1.0
        done = max(0.0, step / self.steps - self.decay_from) / max(1e-9, 1.0 - self.decay_from)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


_OPTIONS = {
    "pygan.fit: out must": "pygan.fit: --out must",
    "pygan.fit: init_from": "pygan.fit: --init-from",
    ", for init_from": ", for --init-from",
    "resume='auto'": "--resume",
    "allow_changes=True": "--allow-changes",
    "lower batch_size, or set drop_last=False": "lower it with --set train.batch_size, or --set train.drop_last=false",
    "nonfinite='rollback'": "--set train.nonfinite=rollback",
}


def _as_options(error: Exception) -> str:
    """A message of pygan.fit in the terms of the command, whose options are arguments of `fit`."""
    text = str(error)
    for argument, option in _OPTIONS.items():
        text = text.replace(argument, option)
    return text


@contextmanager
def _errors_of_table(table: str) -> Iterator[None]:
    """Report errors in the objects built from a table, such as a missing file or too little memory, as errors of the
    table."""
    try:
        yield
    except ConfigError:
        raise
    except (ValueError, RuntimeError, MemoryError, OSError) as error:
        raise ConfigError(f"pygan train: {table} {first_line(error)}") from error


def _resumed(resume: str, out: Path) -> dict[str, Any]:
    """The configuration in the checkpoint to resume from; empty if there is none, or another one than `pygan train`'s,
    which `fit` then reports."""
    path = checkpoint.latest(out / "checkpoints") if resume == "auto" else Path(resume)
    with suppress(CheckpointError, OSError, KeyError):
        if path is not None:
            return configuration.tables_of(checkpoint.load(path)["config"])
    return {}


def _config(arguments: argparse.Namespace, resumed: dict[str, Any] | None = None) -> Config:
    overrides: dict[str, Any] = {}
    for given in arguments.set:
        configuration.override(overrides, given)
    for key in ("seed", "steps", "init_from"):
        if getattr(arguments, key) is not None:
            if key in overrides.get("train", {}):
                raise ConfigError(
                    f"pygan train: --{key.replace('_', '-')} must not be given together with --set train.{key}, "
                    "got both"
                )
            overrides.setdefault("train", {})[key] = getattr(arguments, key)
    if arguments.data is None and arguments.config is None:
        raise ConfigError(
            "pygan train: --data or --config must be given, got neither; see pygan train --help"
        )
    if arguments.data is not None:
        check_data_exist("pygan train: --data", arguments.data)
    config = configuration.load(arguments.data, arguments.config, overrides, resumed=resumed)
    if arguments.data is None:
        check_data_exist(f"pygan train: {arguments.config}: [data] name", config.data.name)
    return config


def _report(result: FitResult, out: Path) -> None:
    here = result.steps - result.first_step
    if here:
        print(
            f"\n{counted(result.steps, 'step')} done"
            + (f", {here:,} of them now," if result.first_step else "")
            + f" in {duration(result.seconds)}, {here / max(result.seconds, 1e-9):.3g} steps/s"
            + (f"; stopped by {result.stopped_by}" if result.stopped_by else "")
        )
    else:
        done = "its only step was" if result.steps == 1 else f"all {result.steps:,} steps were"
        print(f"\nNothing left to do: {done} done before")
    shown = {k: v for k, v in result.metrics.items() if isinstance(v, (int, float))}
    step = shown.pop("step")
    print(f"At step {step:,} (D: discriminator, G: generator):")
    print(*metric_lines(shown, str(result.trainer.loss)), sep="\n")
    early = initial_share(result.trainer.ema)
    if early > MAX_INITIAL_WEIGHT:
        print(
            f"The initial weights still make up {early:.0%} of the average, which evaluations and pygan sample use."
        )
    reals = "reals.png, " if (out / "reals.png").exists() else ""
    print(
        f"In {out}: metrics.jsonl, samples-*.png, {reals}checkpoints/ (the last: {result.checkpoint})"
    )
    if result.stopped_by:
        print("Continue with the same command and --resume.")
