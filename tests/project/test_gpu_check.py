"""tools/gpu without a GPU: messages of check.sh, hanging and failing checks in first.py, sampling of tests."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from helpers import ROOT

TOOLS = ROOT / "tools" / "gpu"


def run(*command, **env):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env}
    options = {"cwd": ROOT, "env": env, "capture_output": True, "text": True}
    return subprocess.run([*map(str, command)], **options, timeout=300)


def test_without_a_gpu_one_line_says_that_nothing_was_checked(tmp_path):
    env = {"PY": sys.executable, "OUT": str(tmp_path / "out"), "CUDA_VISIBLE_DEVICES": ""}
    done = run("bash", TOOLS / "check.sh", **env)
    assert done.stdout == "gpu-check: torch sees no CUDA device, so nothing was checked.\n"
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "0-summary.txt").read_text() == done.stdout


FAKE_PYTHON = """#!/bin/sh
case "$*" in
  *build_info*) ;;
  *first.py*) exec {python} -c '
import time
try:
    print("began", flush=True)
    time.sleep(100)
except KeyboardInterrupt:
    print("interrupted", flush=True)' ;;
esac
"""


def test_ctrl_c_ends_the_running_stage_and_the_script(tmp_path):
    python, out = tmp_path / "python", tmp_path / "out"
    python.write_text(FAKE_PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    env = {"PY": str(python), "OUT": str(out), "DEVICE": "cpu", "LIMIT": "none", "STAGES": "first"}
    check = subprocess.Popen(
        ["bash", TOOLS / "check.sh"],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        text=True,
        # A shell that starts the tests in the background makes them, and what they start, ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    log = out / "1-first.log"
    for _ in range(1200):  # on a busy machine the stage may start late
        if log.exists() and "began" in log.read_text():
            break
        time.sleep(0.1)
    check.send_signal(signal.SIGINT)
    said, _ = check.communicate(timeout=120)
    assert check.returncode == 130
    assert re.fullmatch(r"stopped after \d+ s\n", said)
    assert log.read_text() == "=== first\nbegan\ninterrupted\n"


PLANTED = """
import sys, time
sys.path.insert(0, {tools!r})
import first, registry

registry.CHECKS.clear()

@registry.check()
def fine():
    return {{"ok": True}}

@registry.check(limit=1)
def hangs():
    registry.session.found["so"] = "far"
    time.sleep(60)

@registry.check()
def raises():
    raise ValueError("planted")

@registry.check(cuda_only=True)
def needs_a_gpu():
    raise AssertionError

@registry.check(on_request=True)
def asked_for():
    return {{"ok": True}}

first.main()
"""


def report(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line["check"]: line for line in lines if "check" in line}


@pytest.mark.slow
def test_a_hanging_or_failing_check_does_not_affect_others(tmp_path):
    script, out = tmp_path / "planted.py", tmp_path / "out.jsonl"
    script.write_text(PLANTED.format(tools=str(TOOLS)))
    done = run(sys.executable, script, out, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "failed: hangs, raises"
    found = report(out)
    verdicts = {"about": None, "fine": True, "hangs": False, "raises": False, "needs_a_gpu": True}
    assert {name: line.get("ok") for name, line in found.items()} == verdicts
    assert found["hangs"]["so_far"] == {"so": "far"} and "time.sleep" in found["hangs"]["at"]
    assert found["raises"]["error"] == "ValueError: planted"

    # After a crash in `fine`, which started and did not finish.
    out.write_text('{"began": "fine"}\n')
    done = run(sys.executable, script, out, "--device", "cpu", "--resume", "--seconds", "-1")
    assert done.stdout.splitlines()[-1] == "failed: fine (no end)"
    assert report(out)["hangs"]["why"] == "not run: no time left"

    done = run(sys.executable, script, tmp_path / "one", "--device", "cpu", "--only", "asked_for")
    assert [*report(tmp_path / "one")] == ["about", "asked_for"], done.stderr


def test_the_order_names_existing_checks():
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import first
names = [check.name for check in first.CHECKS]
assert len(names) == len({*names}), names
assert {*first.FIRST, *first.LAST} <= {*names}
order = [check.name for check in first.in_order(first.CHECKS)]
assert order[: len(first.FIRST)] == [*first.FIRST] and order[-len(first.LAST) :] == [*first.LAST]
"""
    done = run(sys.executable, "-c", code, TOOLS)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_kernel_checks_and_sanitizer_calls_run_on_the_cpu(tmp_path):
    done = run(
        *(sys.executable, TOOLS / "first.py", tmp_path / "out", "--device", "cpu"),
        *("--only", "noise_bits", "gradient_bits"),
    )
    assert done.stdout.splitlines()[-1] == "failed: none", done.stdout + done.stderr
    done = run(sys.executable, TOOLS / "sanitize.py", "cpu", "60")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\d+ calls in .* s", done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_sample_of_tests_is_reproducible_and_lists_omissions():
    pytest_ = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v")
    chosen = ("-m", "cuda and not slow", "--cuda-sample", 3)
    files = ("tests/noise/test_noise_bits.py", "tests/noise/test_noise_op.py")
    in_parallel = [("-n", 2)] if importlib.util.find_spec("xdist") else []
    runs = [
        run(*pytest_, *chosen, *more, *files, CUDA_VISIBLE_DEVICES="")
        for more in [(), *in_parallel]
    ]
    for done in runs:
        assert done.returncode == 0, done.stdout + done.stderr
        left_out = re.findall(r"^  (\d+) of (\d+) of (\S+)$", done.stdout, re.M)
        assert ("37", "40", "tests/noise/test_noise_bits.py::test_layouts") in left_out
        total = sum(int(n) for n, _, _ in left_out)
        said = rf"^--cuda-sample 3: {total} of \d+ tests were left out$"
        assert re.search(said, done.stdout, re.M)
    ran = [set(re.findall(r"tests/\S+::[^\n]*?\]", done.stdout)) for done in runs]
    per_test = [name.partition("[")[0] for name in ran[0]]
    assert max(map(per_test.count, per_test)) == 3
    assert ran == ran[:1] * len(ran)
