"""The command line. ``python -m pygan`` prints the build report for a bug report, ``train`` runs a training,
``sample``, ``eval`` and ``export`` use its result, and ``bench`` measures the kernels on this machine.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence

from pygan._build import build_info

_COMMANDS = {
    "train": "pygan.training.command",
    "sample": "pygan.result.sample",
    "eval": "pygan.result.evaluate",
    "export": "pygan.result.export",
    "bench": "pygan.bench.command",
}
"""The module whose `add_parser` adds each command."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command `pygan`; returns its exit status."""
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # another Ctrl-C is not to interrupt the way out
        print("\npygan: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader, such as head, has exited. Discard the remaining output, which Python would try to write at exit.
        with open(os.devnull, "w") as nowhere:
            for stream in (sys.stdout, sys.stderr):
                os.dup2(nowhere.fileno(), stream.fileno())
        return 128 + signal.SIGPIPE


def _run(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="pygan", description="Fused GAN kernels for PyTorch.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    info = commands.add_parser("info", help="what was built, what runs, and why (the default)")
    info.set_defaults(run=report)
    parser.set_defaults(run=report, prepare=None)
    for module in _modules(sys.argv[1:] if argv is None else argv):
        importlib.import_module(module).add_parser(commands)
    arguments = parser.parse_args(argv)
    if argv is None and arguments.prepare is not None:
        arguments.prepare(arguments)
    return int(arguments.run(arguments))


def _modules(argv: Sequence[str]) -> list[str]:
    """The module of the given command, or all of them to list the commands: each one takes time to import."""
    if not argv or argv[0] == "info":
        return []
    return [_COMMANDS[argv[0]]] if argv[0] in _COMMANDS else list(_COMMANDS.values())


def report(arguments: argparse.Namespace) -> int:
    """Prints build_info(), one line per entry."""
    info = build_info()
    width = max(map(len, info))
    for key, value in info.items():
        shown = (", ".join(value) or "none") if isinstance(value, list) else value
        print(f"{key:<{width}}  {'none' if shown == '' else shown}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
