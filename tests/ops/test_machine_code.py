"""Checks the machine code of this build's CUDA kernels for every architecture; no GPU is needed.

The assertions are what makes the kernels fast and bitwise equal to the CPU's: 16-byte loads and stores in the vector
paths, no local memory (hence no spills), and only exactly rounded arithmetic.
"""

import os
import re
import subprocess
import sys
from functools import cache

import pytest
from helpers import ROOT

import pygan
from pygan import _C

sys.path.insert(0, str(ROOT / "tools"))

from machine_code import sass
from machine_code.instructions import main_loop

from setup_helpers.cuda import DEFAULT_ARCHS

INFO = pygan.build_info()
ARCHS = ["sm_" + arch.removesuffix("+PTX").replace(".", "") for arch in INFO["cuda_archs"]]
FLOATS = ("float", "double", "pygan::half_t", "pygan::bfloat16_t")
WITH = ("nothing", "grads", "statistics")  # the additional work of gan_loss_sums_kernel
SIZES = {"double": 8, "float": 4, "half_t": 2, "bfloat16_t": 2, "unsigned char": 1, "uint8_t": 1}

pytestmark = [
    pytest.mark.skipif(not INFO["cuda"], reason=INFO["cuda_reason"]),
    pytest.mark.skipif(
        sass.find_tools() is None,
        reason="cuobjdump and nvdisasm were not found (see tools/machine_code/sass.py)",
    ),
]


@cache
def kernels(arch):
    """{name: kernel}"""
    try:
        return sass.read(_C.__file__, arch)
    except subprocess.CalledProcessError as error:
        if "is not defined for option" in error.stderr:
            pytest.skip(f"the cuobjdump that was found is too old for {arch}")
        raise


@pytest.fixture(scope="module")
def ptx():
    """{kernel: PTX}, for the architecture with PTX in the build."""
    if not any(arch.endswith("+PTX") for arch in INFO["cuda_archs"]):
        pytest.skip("this build carries no PTX: " + " ".join(INFO["cuda_archs"]))
    text = sass.plain(sass.dump(_C.__file__, "--dump-ptx"))
    return dict(re.findall(r"\.entry (.+?)\(\n\.param.*?\{\n(.*?)\n\}", text, flags=re.DOTALL))


def arguments(kernel):
    """The sizes of the types in a kernel's template arguments, in order."""
    return [SIZES[t] for t in re.findall(r"\b(" + "|".join(SIZES) + r")\b", kernel.split("(")[0])]


def sums_kernels(names):
    """{kernel: (type of the logits, additional work)}"""
    pattern = r"\bgan_loss_sums_kernel<([\w:]+), \(pygan::cuda::With\)(\d)>"
    found = {name: re.search(pattern, name) for name in names}
    return {name: (m[1], WITH[int(m[2])]) for name, m in found.items() if m}


def pointwise_kernels(names):
    """{kernel: (grad or terms, type of the logits)}"""
    found = {name: re.search(r"\bgan_loss_(grad|terms)_kernel<([\w:]+)>", name) for name in names}
    return {name: (m[1], m[2]) for name, m in found.items() if m}


def test_every_default_architecture_is_built():
    if "TORCH_CUDA_ARCH_LIST" in os.environ or float(INFO["cuda_version"]) < 13.0:
        pytest.skip("built for a list of the user's, or by a compiler that does not know them all")
    if INFO["devices"]:
        pytest.skip("built for the GPUs of this machine")
    assert tuple(INFO["cuda_archs"]) == DEFAULT_ARCHS


@pytest.mark.parametrize("arch", ARCHS)
def test_all_kernels_are_built(arch):
    names = list(kernels(arch))
    # Losses are data, so there are no kernels per loss.
    sums, pointwise = sums_kernels(names), pointwise_kernels(names)
    assert sorted(sums.values()) == sorted((t, w) for t in FLOATS for w in WITH)
    assert sorted(pointwise.values()) == sorted((k, t) for k in ("grad", "terms") for t in FLOATS)
    assert sum("gan_loss" in name for name in names) == len(sums) + len(pointwise)
    assert sum("instance_noise" in name for name in names) >= 16


@pytest.mark.parametrize("arch", ARCHS)
def test_no_local_memory(arch):
    assert not [name for name, kernel in kernels(arch).items() if kernel.local]
    assert not [
        n for n, kernel in kernels(arch).items() if re.search(r"\b(LDL|STL)\b", kernel.body)
    ]


@pytest.mark.parametrize("arch", ARCHS)
def test_losses_use_16_byte_accesses(arch):
    for name, (_, beside) in sums_kernels(kernels(arch)).items():
        kernel = kernels(arch)[name]
        # The logits and their partners; the gradients of both.
        assert kernel.of_16_bytes("LDG") >= 2, name
        assert kernel.of_16_bytes("STG") >= (0 if beside == "nothing" else 2), name
    for name, (kind, logits) in pointwise_kernels(kernels(arch)).items():
        kernel = kernels(arch)[name]
        assert kernel.of_16_bytes("LDG") >= 2, name
        # Terms have the computation type: two vectors for a vector of 16-bit logits.
        wide = kind == "terms" and SIZES[logits.split("::")[-1]] == 2
        assert kernel.of_16_bytes("STG") >= (4 if wide else 2), name


@pytest.mark.parametrize("arch", ARCHS)
def test_features_use_16_byte_accesses(arch):
    found = {n: k for n, k in kernels(arch).items() if re.search(r"\bfeature_(sums|gradient)", n)}
    sums = [name for name in found if "feature_sums" in name]
    assert len(sums) == 4 * len(FLOATS) and len(found) == len(sums) + len(FLOATS)
    for name, kernel in found.items():
        # Four loads in flight per map.
        assert kernel.of_16_bytes("LDG") >= 8, name
        if name in sums:
            assert re.search(r"\bATOMG?\.[\w.]*INC\b", kernel.body), name
        else:
            assert kernel.of_16_bytes("STG") >= 8, name


@pytest.mark.parametrize("arch", ARCHS)
def test_loss_and_gradient_use_one_kernel(arch):
    """The kernel that stores the gradient also computes the loss in its last block."""
    both = [n for n, (_, beside) in sums_kernels(kernels(arch)).items() if beside != "nothing"]
    assert len(both) == 2 * len(FLOATS)
    for name in both:
        kernel = kernels(arch)[name]
        assert kernel.of_16_bytes("STG") >= 2, name
        assert re.search(r"\bATOMG?\.[\w.]*INC\b", kernel.body), name
        assert re.search(r"\bSHFL\.", kernel.body), name


@pytest.mark.parametrize("arch", ARCHS)
def test_noise_uses_16_byte_accesses(arch):
    noise = {name: kernel for name, kernel in kernels(arch).items() if "instance_noise" in name}
    assert len(noise) >= 16
    for name, kernel in noise.items():
        size_in, size_out = arguments(name)
        # Two groups at a time, except for fp64. A group may have only 4 or 8 bytes to read.
        group, groups = max(4, 16 // size_out), 1 if size_out == 8 else 2
        loads, stores = (groups * (group * size // 16) for size in (size_in, size_out))
        assert kernel.of_16_bytes("STG") >= stores, name
        assert kernel.of_16_bytes("LDG") >= loads, name
        assert (kernel.of_16_bytes("LDG") > 0) == (loads > 0), name


def test_noise_takes_40_instructions_per_element():
    """On the path for whole tiles with a single sigma; the work is almost entirely arithmetic."""
    if "sm_90" not in ARCHS:
        pytest.skip("this build has no code for sm_90: " + " ".join(ARCHS))
    name = next(n for n in kernels("sm_90") if "instance_noise_kernel<float, float>" in n)
    loop = main_loop(kernels("sm_90")[name].body, read=4, written=4)
    # The path is complete: each square root gives two elements.
    assert sum(one.operation == "MUFU.RSQ" for one in loop.path) == loop.elements / 2
    assert len(loop.path) <= 40 * loop.elements


@pytest.mark.parametrize("arch", ARCHS)
def test_noise_calls_no_subroutine(arch):
    """No subroutine, neither for a square root nor for a 64-bit division to find an element's sample."""
    for name, kernel in kernels(arch).items():
        if "instance_noise" in name:  # (ptxas writes far jumps as CALL without a return)
            assert not re.search(r"\bRET\b", kernel.body), name


def test_arithmetic_is_exactly_rounded(ptx):
    """No approximations, no flush to zero, and no product and sum that the assembler could fuse.

    The exception is the reciprocal root in square_root() of csrc/math/hd.h, which corrects it to the last bit.
    """
    noise = {name: body for name, body in ptx.items() if "noise" in name}
    assert len(noise) >= 16
    for name, body in noise.items():
        operations = re.findall(r"^\s*(?:@%?\w+ )?([a-z]\w*(?:\.\w+)+)", body, flags=re.MULTILINE)
        inexact = {o for o in operations if re.search(r"\.(approx|ftz|full)\b", o)}
        assert inexact <= {"rsqrt.approx.ftz.f32"}, name
        arithmetic = {
            o
            for o in operations
            if re.match(r"(add|sub|mul|div|sqrt|rcp|fma|mad)\b.*\.f(32|64)$", o)
        }
        assert arithmetic
        assert not {o for o in arithmetic if ".rn" not in o}, name
    made = "\n".join(body for name, body in noise.items() if "instance_noise" in name)
    assert "fma.rn.f32" in made
    assert "rsqrt.approx.ftz.f32" in made
