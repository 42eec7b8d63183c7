"""Runs dieharder (Brown, Eddelbuettel, Bauer) on the words of the noise stream.

``python tests/quality/battery.py`` prints the long selection as a Markdown table (docs/noise-quality.md).
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

CXX = os.environ.get("CXX", "g++")
HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"

# The order of the words, as counters per step: an endless tensor, or a tensor of 64 elements in many steps, in which
# adjacent words also come from adjacent steps.
ORDERS = {"one tensor": 2**62, "many steps": 16}


@dataclass(frozen=True)
class Case:
    """A test of dieharder with its own words: its number is the seed."""

    test: int
    ntuple: int | None = None  # dieharder's default, as for the others
    psamples: int | None = None
    tsamples: int | None = None
    orders: tuple[str, ...] = ("one tensor",)


BOTH = tuple(ORDERS)
# These take two to three minutes on one core.
FAST = [
    *(Case(test) for test in (2, 4, 10, 11, 12, 13, 100, 101, 204, 205, 209)),
    *(Case(test, orders=BOTH) for test in (0, 3, 8, 9, 15, 16, 206, 207, 208)),
]
# More tests, which take a quarter of an hour. At least 100 psamples are needed, because dieharder's p-value of their
# distribution is asymptotic.
LONG = [
    *FAST,
    *(Case(test, orders=("many steps",)) for test in (4, 13, 101, 205, 209)),
    Case(1, orders=BOTH),
    Case(17, tsamples=1_000_000),
    Case(102, orders=BOTH),
    *(Case(200, ntuple) for ntuple in (1, 2, 3, 4, 5, 6)),
    *(Case(201, ntuple, psamples=100) for ntuple in (2, 3, 4, 5)),
    *(Case(202, ntuple) for ntuple in (2, 3, 4, 5)),
    *(Case(203, ntuple) for ntuple in (0, 1, 3)),
    *(Case(203, ntuple, tsamples=100_000) for ntuple in (4, 8, 16, 32)),
]
UNIFORMS = [Case(test) for test in (0, 3, 4, 8, 9, 10, 11, 12, 13, 15, 16, 100, 101)]


@dataclass(frozen=True)
class Result:
    name: str
    tsamples: int
    psamples: int
    p: float
    assessment: str  # PASSED, WEAK (p below 0.005 or above 0.995) or FAILED (10^-6)


def build(folder: Path) -> Path:
    program = folder / "philox_stream"
    # -ffp-contract=off, as for the extension itself, because the bits must be the same.
    flags = ["-O2", "-march=native", "-std=c++20", "-Wall", "-Wextra", "-Werror"]
    flags += ["-ffp-contract=off", f"-I{CSRC}"]
    subprocess.run([CXX, *flags, HERE / "philox_stream.cpp", "-o", program], check=True)
    return program


def run(
    program: Path, case: Case, *, kind: str = "words", order: str = "one tensor", attempt: int = 0
) -> list[Result]:
    """A result for each p-value of the test. Each attempt uses other words."""
    columns = ("test_name", "tsamples", "psamples", "pvalues", "assessment")
    command = ["dieharder", "-g", "200", "-d", case.test]  # 200: raw words on stdin
    command += ["-c", ",", *(part for column in columns for part in ("-D", column))]
    for option, value in (("-n", case.ntuple), ("-p", case.psamples), ("-t", case.tsamples)):
        command += [] if value is None else [option, value]
    seed = 2**32 * attempt + case.test
    source = [program, kind, str(seed), "0", str(ORDERS[order])]
    with subprocess.Popen(source, stdout=subprocess.PIPE) as words:
        try:
            done = subprocess.run(
                [str(part) for part in command],
                stdin=words.stdout,
                capture_output=True,
                text=True,
                check=True,
            )
        finally:
            words.kill()
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    return [Result(name, int(t), int(p), float(value), word) for name, t, p, value, word in rows]


def attempts(program: Path, case: Case, **how: str) -> list[list[Result]]:
    """One attempt, or two if the first has a result other than PASSED."""
    tries = [run(program, case, **how)]
    if {result.assessment for result in tries[0]} != {"PASSED"}:
        tries.append(run(program, case, attempt=1, **how))
    return tries


def main() -> None:
    print("| -d | test | -n | drawn as | samples | p |\n|---|---|---|---|---|---|")
    runs = [(case, "words", order) for case in LONG for order in case.orders]
    runs += [(case, "uniforms", "one tensor") for case in UNIFORMS]
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        for case, kind, order in runs:
            for results in attempts(program, case, kind=kind, order=order):
                size = f"{results[0].psamples} × {results[0].tsamples:,}"
                p = ", ".join(
                    f"{r.p:.4f}" + f" {r.assessment}" * (r.assessment != "PASSED") for r in results
                )
                cells = (
                    case.test,
                    results[0].name,
                    "" if case.ntuple is None else case.ntuple,
                    f"{kind}, {order}",
                    size,
                    p,
                )
                print("|", " | ".join(map(str, cells)), "|", flush=True)


if __name__ == "__main__":
    main()
