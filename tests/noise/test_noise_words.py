"""The words of the noise stream in a public test battery: dieharder (tests/quality/battery.py).

The seeds are fixed, so that runs are reproducible. A good generator fails a test once in 10^6 p-values and is WEAK once
in 100: a weak test is repeated with other words, and must then pass.
docs/noise-quality.md contains a longer run.
"""

import shutil
import subprocess

import numpy as np
import pytest
import torch
from helpers.noise import z_of
from quality import battery
from quality.battery import FAST, ORDERS, Case

from pygan import reference

pytestmark = pytest.mark.skipif(
    not shutil.which(battery.CXX), reason=f"{battery.CXX} is not installed"
)
needs_dieharder = pytest.mark.skipif(
    not shutil.which("dieharder"),
    reason="dieharder is not installed (Debian: apt-get install dieharder)",
)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return battery.build(tmp_path_factory.mktemp("quality"))


def first_words(program, n, *arguments):
    arguments = [str(argument) for argument in arguments]
    with subprocess.Popen([program, *arguments], stdout=subprocess.PIPE) as process:
        return np.frombuffer(process.stdout.read(4 * n), dtype=np.uint32).astype(np.int64)


def test_words_match_the_stream(program):
    seed, step, counters = 2**63 + 5, 2**32 - 1, 100
    got = first_words(program, 8 * counters, "words", seed, step, counters)
    key = torch.tensor([seed % 2**32, seed >> 32])
    counter = [(c, 0, s % 2**32, s >> 32) for s in (step, step + 1) for c in range(counters)]
    want = reference.philox4x32(torch.tensor(counter), key)
    assert got.tolist() == want.flatten().tolist()


def test_uniforms_match_the_noise(program):
    seed, step, counters = 2**63 + 5, 2**32 - 1, 100
    got = first_words(program, 4 * counters, "uniforms", seed, step, counters)
    z = torch.cat([z_of(4 * counters, seed, s) for s in (step, step + 1)]).double()
    want = (torch.special.ndtr(z) * 2**16).long().view(-1, 2)
    assert got.tolist() == (want[:, 0] * 2**16 + want[:, 1]).tolist()


@needs_dieharder
@pytest.mark.parametrize(("kind", "test"), [("biased", 100), ("counters", 8)])
def test_dieharder_detects_nonrandom_words(program, kind, test):
    assert "FAILED" in {result.assessment for result in battery.run(program, Case(test), kind=kind)}


@needs_dieharder
@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "order"),
    [
        pytest.param(case, order, id=f"{case.test}, {order}")
        for order in ORDERS
        for case in FAST
        if order in case.orders
    ],
)
def test_dieharder(program, case, order):
    first, *again = battery.attempts(program, case, order=order)
    print(*first, *again, sep="\n")
    assert {result.assessment for result in first} <= {"PASSED", "WEAK"}
    assert {result.assessment for result in again} <= {"PASSED"}
