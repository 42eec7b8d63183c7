"""The progress output of pygan.fit, on a terminal and elsewhere."""

import fcntl
import io
import os
import re
import struct
import sys
import termios

import pytest

from pygan.training import progress
from pygan.training.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that advances on request."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def streams(monkeypatch, out, err):
    out, err = (Terminal() if terminal else io.StringIO() for terminal in (out, err))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    return out, err


VALUES = {"d_loss": 1.38629, "g_loss": 0.693147, "d_real": 0.5, "sigma": 0.123}


@pytest.mark.parametrize(
    ("out", "err", "shown", "bar", "lines"),
    [
        (False, False, None, False, True),
        (True, False, None, False, True),
        (False, True, None, True, True),  # standard output goes to a log, next to the bar
        (True, True, None, True, False),
        (False, False, True, True, False),
        (False, False, False, False, False),
    ],
)
def test_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch, clock, out, err, shown, bar, lines):
    out, err = streams(monkeypatch, out, err)
    reporter = Progress(steps=1000, start=0, shown=shown)
    reporter.values(VALUES)
    for _ in range(1000):
        clock[0] += 0.25
        reporter.advance(200)
    reporter.close()
    assert ("100%|" in err.getvalue()) == bar
    printed = out.getvalue().splitlines()
    assert bool(printed) == lines
    assert err.getvalue().count("a step takes 0.25 s; 989 more take 4 min; ") == (
        shown is not False
    )
    if lines:
        steps = [
            int(re.match(r"step ([\d,]+)/1,000 ", line)[1].replace(",", "")) for line in printed
        ]
        # After 10, 20, 40 and then 60 seconds, and at the end.
        assert steps == [40, 120, 280, 520, 760, 1000]
        assert printed[1] == "step 120/1,000 (12%)  D 1.39  G 0.693  σ 0.123  4 steps/s  4 min left"
        assert printed[-1].endswith("4 steps/s  done")


def test_the_time_per_step_and_the_next_samples_are_announced(monkeypatch, clock):
    _, err = streams(monkeypatch, False, False)
    waited = []
    reporter = Progress(steps=500, start=100, shown=None, wait=lambda: waited.append(clock[0]))
    for step in range(101, 120):
        clock[0] += 30.0 if step == 101 else 0.05  # the first step is not representative
        reporter.advance(200)
    assert (
        "a step takes 50 ms; 389 more take 19 s; the next samples come at step 200, in 4.5 s"
        in (err.getvalue())
    )
    assert len(waited) == 2


def test_the_bar_fits_80_columns_with_the_longest_numbers(monkeypatch):
    main, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with open(terminal, "w") as err, open(main, "rb", buffering=0) as screen:
        monkeypatch.setattr(sys, "stderr", err)
        reporter = Progress(steps=1_000_000, start=999_998, shown=None)
        reporter.values({"d_loss": -0.000123, "g_loss": 12345.6, "sigma": 0.123})
        for _ in range(2):
            reporter.advance()
        reporter._bar.refresh()
        reporter.close()
        print("the end", file=err, flush=True)
        shown = b""
        while b"the end" not in shown:  # a terminal delivers its text in pieces
            shown += screen.read(4096)
    bars = re.split(r"[\r\n]", shown.decode())
    assert any(bar.endswith("D -0.000123 G 1.23e+04 σ 0.123") for bar in bars)
    assert 70 < max(map(len, bars)) <= 80


def test_durations_are_written_in_fitting_units():
    seconds = [0.00123, 0.05, 0.123, 5.04, 45.2, 100, 3000, 5400, 12_000, 400_000]
    assert [duration(s) for s in seconds] == [
        *("1.2 ms", "50 ms", "0.12 s", "5 s", "45 s", "2 min", "50 min"),
        *("1 h 30 min", "3 h 20 min", "111 h"),
    ]
