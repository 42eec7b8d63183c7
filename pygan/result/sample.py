"""`pygan sample`: samples of a run as pictures, as an array, or as a single picture.

pygan sample runs/photos --n 1000 --out samples/
pygan sample runs/photos --n 1000 --out samples.npz --seed 1
pygan sample runs/photos --out grid.png --truncation 0.7
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pygan._validation import counted
from pygan.checkpoint import writing
from pygan.result import arguments as shared
from pygan.result.generator import TrainedGenerator
from pygan.training.drawing import CaptionedPreview
from pygan.training.sample_grids import WIDTH, grid_holds, image_grid, is_images, write_png
from pygan.training.sources import preview_of

__all__ = ["add_arguments"]

_NAME = re.compile(r"sample-\d{6,}\.png")
_OTHER_FILES = {".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tiff", ".npy", ".pt", ".zip", ".csv"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.description = (
        "Draw samples from the generator of a run, from its average if it has one. A seed gives the same latents on "
        "every machine and for every --batch."
    )
    shared.add_run(parser)
    add = parser.add_argument
    add("--n", type=shared.positive, default=64, help="samples (default: 64)")
    add(
        "--out",
        type=Path,
        required=True,
        help="a folder, for a PNG file of each (of a conditional run in a folder for each class); x.npz, for arrays "
        '"samples" (N, ...) float32 and "labels"; or x.png, for a picture of all',
    )
    shared.add_sampling(parser)
    add("--class", dest="label", metavar="NAME", help="only this one (default: classes in turn)")
    add("--force", action="store_true", help="replace what is there")
    parser.set_defaults(run=lambda arguments: shared.run_command("sample", lambda: run(arguments)))


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    out, n = arguments.out, arguments.n
    suffix = out.suffix.lower()
    if suffix in _OTHER_FILES:
        raise ValueError(f"--out must be a folder, or end in .npz or .png, got {out}")
    shared.refuse_existing(out, arguments.force)
    generator = shared.load(arguments)
    labels = shared.labels_of(generator, arguments.label, n)
    batches = generator.batches(n, labels, arguments.seed, arguments.truncation, arguments.batch)
    if suffix == ".npz":
        out.parent.mkdir(parents=True, exist_ok=True)
        _write_arrays(out, batches, labels)
    elif suffix == ".png":
        _write_grid(out, batches, generator, n)
    else:
        _write_folder(out, batches, generator, labels)
    which = "the average" if generator.averaged else "the generator"
    print(
        f"{counted(n, 'sample')} in {out}: seed {arguments.seed}, {which} of step {generator.step}"
    )
    shared.warn_if_early(generator)


def _write_arrays(out: Path, batches: Iterator[Tensor], labels: Tensor | None) -> None:
    samples = torch.cat([batch.float().cpu() for batch in batches])
    arrays: dict[str, Any] = {"samples": samples.numpy()}
    if labels is not None:
        arrays["labels"] = labels.numpy()
    unfinished = out.with_name(f".{out.name}.tmp")
    with writing(out):
        try:
            with open(unfinished, "wb") as file:
                np.savez(file, **arrays)
            os.replace(unfinished, out)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise


def _write_grid(out: Path, batches: Iterator[Tensor], generator: TrainedGenerator, n: int) -> None:
    shape = generator.sample_shape
    preview = _preview(generator)
    if is_images(torch.empty(1, *shape, device="meta")):
        frame = 0 if preview is None else 2
        most = grid_holds(shape[-2] + frame, shape[-1] + frame)
        if n > most:
            raise ValueError(
                f"--n must be at most {most}, the number of samples of this size that fit into one picture, got {n}; "
                "use a folder or an .npz file for more"
            )
    elif preview is None:
        raise ValueError(
            f"--out must end in .npz for samples of shape {shape}, which are not pictures, got {out}"
        )
    samples = torch.cat([batch.cpu() for batch in batches])
    draw = preview or (lambda images: image_grid(images, width=WIDTH))
    picture = draw(samples * generator.scale)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_png(out, picture)


def _preview(generator: TrainedGenerator) -> CaptionedPreview | None:
    """How the run drew its samples: points as a scatter plot, digits as ink on paper; None: as images."""
    data = generator.config.get("data")
    name = data.get("name") if isinstance(data, dict) else None
    shape = generator.sample_shape
    is_drawn = shape == (2,) or (len(shape) == 3 and shape[0] == 1)
    return preview_of(name, generator.scale) if is_drawn and isinstance(name, str) else None


def _write_folder(
    out: Path, batches: Iterator[Tensor], generator: TrainedGenerator, labels: Tensor | None
) -> None:
    if not is_images(torch.empty(1, *generator.sample_shape, device="meta")):
        ends = ".npz" if _preview(generator) is None else ".npz or .png"
        raise ValueError(
            f"--out must end in {ends} for samples of shape {generator.sample_shape}, which are not pictures, got {out}"
        )
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(
            f"--out must be a folder, or end in .npz or .png, got the file {out}"
        )
    out.mkdir(parents=True, exist_ok=True)
    for old in (*out.glob("sample-*.png"), *out.glob("*/sample-*.png")):
        if _NAME.fullmatch(old.name):  # left by an earlier call that wrote more samples
            old.unlink()
    i = 0
    for batch in batches:
        for image in batch.cpu():
            folder = out
            if labels is not None:
                folder = out / _folder_name(generator, int(labels[i]))
                folder.mkdir(exist_ok=True)
            write_png(folder / f"sample-{i:06d}.png", image_grid(image[None], padding=0))
            i += 1


def _folder_name(generator: TrainedGenerator, label: int) -> str:
    """The name of the class, or its number if the name could lead to another folder."""
    name = generator.classes[label] if generator.classes else f"{label}"
    return name if re.fullmatch(r"\w[\w .+-]*", name) else f"{label}"
