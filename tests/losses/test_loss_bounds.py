"""The CPU kernels of the losses and of feature matching read and write exactly their arrays: on arrays of exactly the
required size, under AddressSanitizer and UBSan."""

import shutil
import subprocess

import pytest
from helpers import ROOT


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
@pytest.mark.parametrize("kernels", ["loss", "features"])
def test_no_memory_outside_the_tensors_is_accessed(tmp_path, kernels):
    program = tmp_path / "bounds"
    flags = ["-std=c++20", "-O1", "-g", "-ffp-contract=off", "-fsanitize=address,undefined"]
    flags += ["-fno-sanitize-recover=all", f"-I{ROOT / 'csrc'}"]
    source = ROOT / "tests" / "bounds" / f"{kernels}.cpp"
    subprocess.run(["g++", *flags, str(source), "-o", str(program)], check=True)
    run = subprocess.run([str(program)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr[-4000:]
