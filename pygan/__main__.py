"""``python -m pygan``: the build report, in a form to paste into a bug report. ``python -m pygan train``: a run.
``python -m pygan bench``: what the kernels gain on this machine."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from pygan._build import build_info


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
        # Whoever read the output has ended, as head does. What is left of it goes nowhere, or Python would try to write
        # it at its exit.
        with open(os.devnull, "w") as nowhere:
            for stream in (sys.stdout, sys.stderr):
                os.dup2(nowhere.fileno(), stream.fileno())
        return 128 + signal.SIGPIPE


def _run(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="pygan", description="Fused GAN kernels for PyTorch.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    info = commands.add_parser("info", help="what was built, what runs, and why (the default)")
    info.set_defaults(run=report)
    from pygan.bench import command as bench
    from pygan.training import command as train

    train.add_parser(commands)
    bench.add_parser(commands)
    parser.set_defaults(run=report)
    arguments = parser.parse_args(argv)
    if argv is None and arguments.run is bench.run:
        bench.bind_threads(arguments)
    return int(arguments.run(arguments))


def report(arguments: argparse.Namespace) -> int:
    """Prints build_info(), one line an entry."""
    info = build_info()
    width = max(map(len, info))
    for key, value in info.items():
        shown = (", ".join(value) or "none") if isinstance(value, list) else value
        print(f"{key:<{width}}  {'none' if shown == '' else shown}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
