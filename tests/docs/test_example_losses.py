"""examples/vocoder.py and vqgan.py: pygan's losses and the plain lines that they replace train identically."""

import importlib.util
import re
import subprocess
import sys

import pytest
import torch
from helpers import ROOT

EXAMPLES = {name: ROOT / "examples" / f"{name}.py" for name in ("vocoder", "vqgan")}


def module(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES[name])
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("name", "steps"), [("vocoder", 3), ("vqgan", 9)])
def test_plain_and_fused_losses_give_the_same_training(name, steps, float64):
    """In float64, because training amplifies rounding errors."""
    example = module(name)
    plain, fused = (example.train(x, steps)[0] for x in (example.PLAIN, example.FUSED))
    assert len(plain) == steps and plain[-1].all()
    torch.testing.assert_close(fused, plain, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--plain"]])
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_print_the_losses_and_their_time(name, options):
    command = [sys.executable, EXAMPLES[name], "--steps", "4", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.startswith("step ") for line in lines[:4]] == [True, True, True, False]
    for line in lines[3:]:
        assert re.search(r": plain [\d.]+ (ms|us), pygan [\d.]+ \1, [\d.]+ x$", line)


def sides(diff):
    """The functions on both sides of a diff."""
    lines = diff.splitlines()
    for sign in "-+":
        kept = "\n".join(line[1:] for line in lines if line[:1] in (" ", sign, ""))
        yield [function.strip("\n") for function in re.split(r"\n(?=def )", kept)]


def test_diffs_in_the_documentation_match_the_examples():
    page = (ROOT / "docs" / "porting.md").read_text("utf-8")
    diffs = re.findall(r"^```diff\n(.*?)^```$", page, re.M | re.S)
    assert len(diffs) == len(EXAMPLES)
    for path, diff in zip(EXAMPLES.values(), diffs, strict=True):
        text = path.read_text("utf-8")
        for kind, functions in zip(("plain", "fused"), sides(diff), strict=True):
            for function in functions:
                assert function.replace("def ", f"def {kind}_", 1) in text
