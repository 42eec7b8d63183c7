"""The command line. ``python -m pygan`` prints the build report for a bug report, ``train`` runs a training,
``sample``, ``eval`` and ``export`` use its result, and ``bench`` measures the kernels on this machine.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

from pygan._build import build_info

_COMMANDS = {
    "train": ("pygan.training.command", "train a GAN"),
    "sample": ("pygan.result.sample", "draw samples from a trained generator"),
    "eval": ("pygan.result.evaluate", "judge a trained generator"),
    "export": ("pygan.result.export", "write a trained generator for other programs"),
    "bench": (
        "pygan.bench.command",
        "time the fused ops against PyTorch and against plain copies on this machine",
    ),
}
"""For each command, the module whose `add_arguments` completes its parser, and what the list of commands says."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command `pygan`; returns its exit status."""
    before, warnings.formatwarning = (
        warnings.formatwarning,
        partial(_format_warning, warnings.formatwarning),
    )
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # another Ctrl-C must not interrupt the exit
        print("\npygan: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader, such as head, has exited. Discard the remaining output, which Python would try to write at exit.
        with open(os.devnull, "w") as nowhere:
            for stream in (sys.stdout, sys.stderr):
                os.dup2(nowhere.fileno(), stream.fileno())
        return 128 + signal.SIGPIPE
    finally:
        warnings.formatwarning = before


def _format_warning(otherwise: Any, message: Any, category: Any, filename: str, *where: Any) -> str:
    """A warning as text. Those of pygan are about the user's files, and need no line of pygan's source."""
    if filename.startswith(os.path.join(os.path.dirname(__file__), "")):
        return f"pygan: {message}\n"
    return str(otherwise(message, category, filename, *where))


def _run(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="pygan", description="Fused GAN kernels for PyTorch.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    info = commands.add_parser("info", help="what was built, what runs, and why (the default)")
    info.set_defaults(run=report)
    parser.set_defaults(run=report, prepare=None)
    given = sys.argv[1:] if argv is None else argv
    for name, (module, text) in _COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if list(given[:1]) == [name]:  # importing the others would take seconds
            importlib.import_module(module).add_arguments(command)
    arguments = parser.parse_args(argv)
    if argv is None and arguments.prepare is not None:
        arguments.prepare(arguments)
    return int(arguments.run(arguments))


def report(arguments: argparse.Namespace) -> int:
    """Print build_info(), one line per entry."""
    info = build_info()
    width = max(map(len, info))
    for key, value in info.items():
        shown = (", ".join(value) or "none") if isinstance(value, list) else value
        print(f"{key:<{width}}  {'none' if shown == '' else shown}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
