"""`pygan export`: exports a run's generator to a file, and checks it by running the file.

pygan export runs/photos --out generator.onnx
pygan export runs/photos --format torch.export --out generator.pt2
"""

from __future__ import annotations

import argparse
import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pygan.noise import instance_noise
from pygan.result import arguments as shared
from pygan.result.generator import TrainedGenerator
from pygan.stream import NoiseStream
from pygan.training.extras import extra

__all__ = ["add_arguments"]

_SUFFIXES = {"torch.export": ".pt2", "onnx": ".onnx"}
_SIZES = (1, 2, 5)  # sizes of the batches with which the file is checked
_TOLERANCE = 1e-4  # relative to the largest value of the samples
Inputs = tuple[Tensor, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.description = (
        "Write the generator of a run as a file of torch.export (.pt2, for torch.export.load) or as ONNX (.onnx), "
        "for batches of any size. It maps latents, and labels if the run is conditional, to samples. The file is "
        "then loaded and run, and its samples must agree with the generator's."
    )
    shared.add_run(parser)
    add = parser.add_argument
    add("--format", choices=_SUFFIXES, help="default: by the suffix of --out")
    add("--out", type=Path, required=True, help="file, x.pt2 or x.onnx")
    add("--force", action="store_true", help="replace what is there")
    parser.set_defaults(run=lambda arguments: shared.run_command("export", lambda: run(arguments)))


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    out: Path = arguments.out
    by_suffix = {suffix: name for name, suffix in _SUFFIXES.items()}
    name = by_suffix.get(out.suffix)
    if name is None or arguments.format not in (None, name):
        wanted = _SUFFIXES.get(arguments.format, " or ".join(by_suffix))
        raise ValueError(f"--out must end in {wanted}, got {out}")
    shared.refuse_existing(out, arguments.force)
    generator = shared.load(arguments).float()
    inputs = [_inputs(generator, n) for n in _SIZES]
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.stem}.tmp{out.suffix}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ignore the exporters' warnings about themselves
            write, reader = (_write_onnx, _onnx) if name == "onnx" else (_write_program, _program)
            write(generator, inputs[1], unfinished)
            by, runs = reader(unfinished)
            error = max(_error(generator, runs, given) for given in inputs)
        if not error <= _TOLERANCE:
            raise ValueError(
                f"the file must reproduce the generator's samples, got different ones from {by}: they differ by "
                f"{error:.2g} of the largest value; nothing was written"
            )
        os.replace(unfinished, out)
    finally:
        unfinished.unlink(missing_ok=True)
    size = out.stat().st_size / 1e6
    print(
        f"{out}: {size:.1f} MB; {by} reproduces the generator's samples in batches of "
        f"{', '.join(map(str, _SIZES))} (largest difference: {error:.1g} of the largest value)"
    )


def _inputs(generator: TrainedGenerator, n: int) -> Inputs:
    """The latents and labels of a batch."""
    shape = generator.latent_shape
    if shape is None:
        raise ValueError(
            "the run must have used normal latents, got one whose latents are None or a function; export its module "
            "from Python"
        )
    like = next(generator.parameters())
    latent = instance_noise(torch.zeros(n, *shape), 1.0, stream=NoiseStream(n)).to(like)
    if not generator.conditional:
        return (latent,)
    return latent, torch.arange(n, device=like.device) % len(generator.classes or "1")


def _batch_of_any_size(inputs: Inputs) -> dict[str, Any]:
    n = torch.export.Dim("n")
    return {name: {0: n} for name, _ in zip(("latent", "labels"), inputs)}


def _write_program(generator: TrainedGenerator, inputs: Inputs, path: Path) -> None:
    program = torch.export.export(
        generator, inputs, dynamic_shapes=_batch_of_any_size(inputs), strict=False
    )
    torch.export.save(program, path)


def _program(path: Path) -> tuple[str, Callable[[Inputs], Tensor]]:
    module = torch.export.load(path).module()
    return "torch.export.load", lambda inputs: module(*inputs)


def _write_onnx(generator: TrainedGenerator, inputs: Inputs, path: Path) -> None:
    for package in ("onnx", "onnxscript"):
        extra(package, "--format onnx", "export")
    # Without torchvision, the exporter warns that it skips torchvision's operators, which generators do not use.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    torch.onnx.export(
        generator,
        inputs,
        path,
        dynamo=True,
        input_names=["latent", "labels"][: len(inputs)],
        output_names=["samples"],
        dynamic_shapes=_batch_of_any_size(inputs),
        external_data=False,  # one file
        verbose=False,
    )


def _onnx(path: Path) -> tuple[str, Callable[[Inputs], Tensor]]:
    """Run the file with onnxruntime if it is installed, otherwise with ONNX's slow reference evaluator."""
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        evaluator, by = ReferenceEvaluator(str(path)), "onnx's reference evaluator"
    else:
        evaluator, by = onnxruntime.InferenceSession(path), f"onnxruntime {onnxruntime.__version__}"

    def samples(inputs: Inputs) -> Tensor:
        given = {name: x.cpu().numpy() for name, x in zip(("latent", "labels"), inputs)}
        return torch.from_numpy(evaluator.run(None, given)[0])

    return by, samples


@torch.no_grad()
def _error(generator: TrainedGenerator, runs: Callable[[Inputs], Tensor], inputs: Inputs) -> float:
    """Largest difference between the file's outputs and the generator's samples, relative to their largest value."""
    expected, got = generator(*inputs).cpu(), runs(inputs).cpu()
    if got.shape != expected.shape:
        return float("inf")
    largest = expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny)
    return float((got - expected).abs().max() / largest)
