"""The benchmarks run to their ends, and their tables are whole."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pygan.fused_losses import LOSSES

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize(
    ("script", "rows"),
    [
        ("losses", [f"{kind} {loss}" for kind in "DG" for loss in LOSSES] + ["D with statistics"]),
        ("noise", ["instance noise", "instance noise, out="]),
        pytest.param("trainer", ["MLP, 2-D", "DCGAN, 32 x 32"], marks=pytest.mark.slow),
    ],
)
def test_tables(script, rows):
    command = [sys.executable, BENCHMARKS / f"{script}.py", "--seconds", "0", "--markdown"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    table = [line.split(" | ") for line in out.splitlines() if line.startswith("| ")]
    assert len({len(line) for line in table}) == 1
    names = [line[0].removeprefix("| ") for line in table]
    for row in rows:
        assert any(name.startswith(row) for name in names), out
    for line in table[1:]:
        times = [float(cell) for cell in line[1:] if re.fullmatch(r"\d+\.\d", cell)]
        assert len(times) >= 2, out
        assert min(times) > 0, out
