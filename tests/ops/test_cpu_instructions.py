"""Instruction counts of the CPU kernels, which, unlike times, are the same in every run: no kernel may take more than
recorded (tests/instructions/counts.json; `python tests/instructions/count.py --renew` updates the records)."""

import platform
import shutil

import pytest
from instructions import count

from pygan import _C

# The allowed increase: other releases of the same compiler schedule slightly differently.
SLACK = 1.03


def why_not():
    built, recorded = _C.build_config()["cxx"], count.recorded()["compiler"]
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        return "instructions are counted with the trap flag of x86-64 under Linux"
    if built.split(".")[0] != recorded.split(".")[0]:
        return f"the counts are those of {recorded}, and this build is by {built}"
    if shutil.which("g++") is None:
        return "no g++"
    return ""


pytestmark = pytest.mark.skipif(why_not() != "", reason=why_not())


@pytest.mark.parametrize("capability", count.CAPABILITIES)
def test_no_kernel_takes_more_instructions_than_recorded(capability):
    if not _C.cpu_kernels(capability):
        pytest.skip(f"this machine or build has no {capability}")
    counts, recorded = count.count(capability), count.recorded()[capability]
    assert counts.keys() == recorded.keys()
    over = {
        name: f"{counts[name]} instructions for {count.ELEMENTS} elements, recorded {recorded[name]}"
        for name in counts
        if counts[name] > SLACK * recorded[name]
    }
    assert not over


def test_counts_are_the_same_in_every_run():
    name = "Hinge value, grad"
    capability = _C.cpu_capability()
    table, index = _C.cpu_kernels(capability), dict((n, i) for i, n in count.names())[name]
    runs = {count.library().instructions(table, index, 640) for _ in range(3)}
    assert len(runs) == 1
    assert count.library().instructions(table, index, 1280) > max(runs)
