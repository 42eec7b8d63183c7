"""The command `python -m pygan bench`."""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import pygan
from pygan.bench import cases, machine, ops, plots, report, scaling, steps
from pygan.training.config_values import first_line

__all__ = ["add_arguments", "bind_threads", "run"]

DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp64": torch.float64,
}
QUICK_OPS = ("*_loss[[]non_saturating]", "instance_noise", "instance_noise(out=)")
QUICK_SIZES = (1 << 6, 1 << 12, 1 << 16, 1 << 20)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.description = (
        "Time every op against the plain PyTorch expression, torch.compile of it and reference calls "
        "that only copy, draw or dispatch, and whole training steps; write the table, JSON, CSV and plots. Ratios "
        "mean more than times, and only those of one run."
    )
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--steps", action="store_true", help="only whole training steps")
    what.add_argument("--scaling", action="store_true", help="only time against N, to 2^28")
    add("--quick", action="store_true", help="under a minute: few ops, fp32, no torch.compile")
    add("--ops", nargs="+", metavar="PATTERN", default=["*"], help='as in "generator_loss*"')
    add("--sizes", nargs="+", type=_size, metavar="N", help="logits of each kind, or elements")
    add("--dtypes", nargs="+", choices=DTYPES, default=["fp32", "bf16"])
    add(
        "--device",
        type=_device_named,
        help="default: cuda if there is one and the kernels are built for it",
    )
    add("--threads", type=_at_least(1, int), help="of the CPU (default: torch's)")
    add("--seconds", type=_at_least(0, float), default=0.5, help="for each row (default: 0.5)")
    add("--no-compile", action="store_true", help="leave torch.compile out")
    add(
        "--profile",
        action="store_true",
        help="also write traces of a training step, plain and fused",
    )
    add("--markdown", action="store_true", help="tables as Markdown")
    add("--out", type=Path, default=Path("pygan-bench"), help="folder (default: pygan-bench)")
    parser.set_defaults(run=run, prepare=bind_threads)


def _size(text: str) -> int:
    """Parse a size such as 4096 or 2^12."""
    found = re.fullmatch(r"([0-9]{1,18})(?:\^([0-9]{1,2}))?", text)
    size = int(found[1]) ** int(found[2] or 1) if found else 0
    if not 0 < size < 1 << 63:
        raise argparse.ArgumentTypeError(
            f"must be a positive number such as 4096 or 2^12, and below 2^63, got {text}"
        )
    return size


def _at_least(least: int, kind: type[int] | type[float]) -> Callable[[str], float]:
    """A parser of finite numbers of at least `least`."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            what = "an int" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"must be {what} of at least {least}, got {text}")
        return value

    return parse


def _device_named(text: str) -> torch.device:
    try:
        device = torch.device(text)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"must be cpu or cuda, got {text}")
    return device


def bind_threads(arguments: argparse.Namespace) -> None:
    """Restart the program with its threads bound to processors, if it is to time a CPU and they are not bound yet."""
    if _device(arguments).type == "cpu":
        machine.bind_threads()


def _device(arguments: argparse.Namespace) -> torch.device:
    """The device that was requested, or the best one."""
    if arguments.device is not None:
        return arguments.device
    usable = pygan.build_info()["cuda"] and torch.cuda.is_available()
    return torch.device("cuda" if usable else "cpu")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    try:
        _run(arguments)
    except (ImportError, RuntimeError, ValueError, OSError) as error:
        print(f"pygan bench: {first_line(error)}", file=sys.stderr)
        return 1
    return 0


def _run(a: argparse.Namespace) -> None:
    a.device = _device(a)
    if a.device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"--device must be cpu if torch sees no CUDA device, got {a.device}; see pygan info"
        )
    if a.threads is not None:
        torch.set_num_threads(a.threads)
    if a.quick:
        a.ops = a.ops if a.ops != ["*"] else list(QUICK_OPS)
        a.dtypes, a.no_compile, a.sizes = ["fp32"], True, a.sizes or list(QUICK_SIZES)
        a.seconds = min(a.seconds, 0.2)
    try:  # before minutes of measurements
        a.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"--out must be a folder, or one that can be made, got {a.out} ({error.strerror})"
        ) from error
    result: dict[str, Any] = {"about": machine.about(a.device)}
    for key, value in result["about"].items():
        print(f"{key:9} {value}")
    if a.device.type == "cpu" and os.getloadavg()[0] > 0.5:
        print("The machine is busy: timings will be noisy.")
    rows: list[ops.Row] = []
    if a.scaling:
        points = list(scaling.measure(a.device, max_size=_max_size(a), seconds=a.seconds))
        print("\n" + "\n".join(report.fit_line(fit) for fit in scaling.fits(points)))
        result["scaling"] = [point.flat() for point in points]
    else:
        if not a.steps:
            rows = _ops(a)
            result["ops"] = [row.flat() for row in rows]
        if not rows or a.ops == ["*"] or a.quick or a.profile:
            result["steps"] = _steps(a)
    name = "scaling" if a.scaling else "steps" if a.steps else "bench"
    written = report.write(a.out, name, result)
    if a.profile:
        written += steps.write_traces(a.out, a.device)
    try:
        written += plots.draw(
            a.out, result["about"], result.get("ops", ()), result.get("steps", ())
        )
    except ImportError as error:
        print(f"\nNo plots: {error}")
    print("\nWritten: " + ", ".join(map(str, written)))


def _max_size(a: argparse.Namespace) -> int:
    return max(a.sizes or [1 << (22 if a.quick else 28)])


def _ops(a: argparse.Namespace) -> list[ops.Row]:
    dtypes = [DTYPES[name] for name in a.dtypes]
    chosen = list(cases.cases(a.ops, a.sizes, dtypes, a.device))
    if not chosen:
        raise ValueError(
            f"--ops must match one of {', '.join(cases.names())}, got {' '.join(a.ops)}"
        )
    print(
        "\nMedian time of a call; gain: how many times faster than the fastest other way; reference: what copying as "
        "much,\ndrawing as many normals or calling an op that does nothing takes here, the greatest of the three. "
        f"†: spread beyond {report.NOISY} %.\n"
    )
    widths = [max(len(case.op) for case in chosen), max(len(case.work) for case in chosen)]
    table = report.Table(report.COLUMNS, widths=widths, markdown=a.markdown)
    rows, passes = [], 1 if a.quick else 3
    for row in ops.measure(
        chosen, a.device, seconds=a.seconds, compile=not a.no_compile, passes=passes
    ):
        table.line(report.cells(row.flat()))
        sys.stdout.flush()
        rows.append(row)
    losing = [row for row in rows if row.gain < 1]
    print(
        f"\nGeometric mean of the gains: {report.geometric_mean([r.gain for r in rows]):.1f} ×; ",
        end="",
    )
    print(f"pygan is slower in {len(losing)} of {len(rows)} rows.")
    return rows


def _steps(a: argparse.Namespace) -> list[dict[str, Any]]:
    found = list(steps.measure(a.device, seconds=4 * a.seconds, first_only=a.quick))
    print("\nA discriminator step and a generator step:\n")
    widths = [max(len(step.model) for step in found), max(len(step.way) for step in found)]
    table = report.Table(report.STEPS_COLUMNS, widths=widths, markdown=a.markdown)
    flat = [step.flat() for step in found]
    for line in report.steps_cells(flat):
        table.line(line)
    return flat
