"""tools/predict_bandwidth.py: its parser and model on handwritten code, and lower bounds for its predictions.

The first half does not need CUDA or its tools; the second reads the kernels of this build.
"""

import re
import sys

import pytest
from helpers import ROOT

import pygan

sys.path.insert(0, str(ROOT / "tools"))

from machine_code import predict, sass, throughput
from machine_code.gpus import GPU, GPUS
from machine_code.instructions import Instruction, control_flow, main_loop

# A GPU with round numbers: 4 bytes per clock and SM, and negligible latency.
ROUND = GPU("round", "sm_80", 100, 1.0, 400, 64, 32, 64, 32, 164, 1)

COPY = """
        /*0000*/                   MOV R1, c[0x0][0x28] ;
        /*0010*/                   LDG.E.128 R4, [R2.64] ;
        /*0020*/                   STG.E.128 [R8.64], R4 ;
{work}
        /*0f00*/              @!P0 BRA 0x10 ;
        /*0f10*/                   EXIT ;
"""


def copy_loop(work=()):
    """A loop that copies 16 bytes, with additional work."""
    lines = [f"/*{0x30 + 16 * i:04x}*/ {text} ;" for i, text in enumerate(work)]
    return COPY.format(work="\n".join(lines))


def kernel(body, registers=32):
    return sass.Kernel("copy", "sm_80", registers, 0, 0, body)


def case(read=4, written=4):
    return predict.Case("copy", "float32", "copy", read, written, 1, 1 << 10, 0, 0, 0)


@pytest.mark.parametrize(
    ("text", "pipe", "written", "read"),
    [
        ("FFMA R1, R2.reuse, -|R3|, 1", "fp32", ["R1"], ["R2", "R3"]),
        ("@!P2 IADD3 R4, P0, R5, UR6, RZ", "integer", ["R4", "P0"], ["P2", "R5", "UR6"]),
        ("ISETP.GE.AND P0, PT, R3, R4, P1", "integer", ["P0"], ["R3", "R4", "P1"]),
        ("IMAD.WIDE.U32 R4, R6, 0x4, R8", "multiply", ["R4", "R5"], ["R6", "R8"]),
        ("LDG.E.128 R8, desc[UR4][R2.64+0x10]", "memory", ["R8", "R9", "R10", "R11"], ["UR4", "R2", "R3"]),
        ("MUFU.RCP R0, R1", "special", ["R0"], ["R1"]),
        ("F2FP.BF16.F32.PACK_AB R0, R1, R2", "special", ["R0"], ["R1", "R2"]),
        ("DADD R2, R4, R6", "fp64", ["R2", "R3"], ["R4", "R5", "R6", "R7"]),
        ("LDC.64 R2, c[0x0][R10+0x210]", "other", ["R2", "R3"], ["R10"]),
        ("@P0 BRA 0x10", "other", [], ["P0"]),
    ],
)  # fmt: skip
def test_instructions(text, pipe, written, read):
    one = Instruction(text)
    assert one.pipe == pipe
    assert one.registers == (written, read)


def test_moved_bytes():
    sizes = {
        "LDG.E.128": 16,
        "LDG.E.64.CONSTANT": 8,
        "LDG.E": 4,
        "LDG.E.U16": 2,
        "LDG.E.U8": 1,
        "LDS.128": 0,
    }
    for operation, size in sizes.items():
        assert Instruction(f"{operation} R0, [R2]").moves("LDG") == size


def test_branches_lead_to_their_targets():
    text = """
        /*0000*/ @P0 BRA 0x30 ;
        /*0010*/ CALL.REL.NOINC 0x40 ;
        /*0020*/ EXIT ;
        /*0030*/ BRA.U UP0, 0x20 ;
        /*0040*/ BRX R2 -0x10 ;
        /*0050*/ RET.REL.NODEC R4 0x0 ;
    """
    # The instruction after BRX is a target of its table, because it has no other predecessor.
    assert control_flow(text)[1] == [[3, 1], [4, 2], [], [2, 4], [5], []]


def test_a_loop_with_its_entry_and_exit_paths():
    loop = main_loop(copy_loop(["FADD R4, R4, R5"]), 4, 4)
    # One iteration, starting from the load or the store, whichever was tried first.
    assert sorted(one.operation for one in loop.path) == ["BRA", "FADD", "LDG.E.128", "STG.E.128"]
    assert [one.operation for one in loop.before] == ["MOV"]
    assert [one.operation for one in loop.after] == ["EXIT"]
    assert loop.elements == 4


def test_a_loop_that_moves_other_bytes_is_refused():
    with pytest.raises(ValueError, match="no loop that loads 2 and stores 4 bytes"):
        main_loop(copy_loop(), 2, 4)
    with pytest.raises(ValueError, match="no loop"):
        main_loop(copy_loop(), 4, 4, fp32=1)


def test_a_copy_reaches_the_peak_bandwidth():
    row = predict.predict(case(), kernel(copy_loop()), ROUND)
    assert row.bound == "bandwidth"
    assert row.predicted_share == 1
    assert row.instructions == {"memory": 0.5, "other": 0.25}


def test_twice_the_work_takes_twice_as_long():
    """Beyond the memory bound: 8 bytes take 2.2 clocks, in which an SM executes 139 independent sums."""
    shares = []
    for sums in (400, 800, 1600):  # for four elements
        work = [f"FADD R{32 + i % 8}, R40, R41" for i in range(sums)]
        shares.append(predict.predict(case(), kernel(copy_loop(work)), ROUND).predicted_share)
    assert shares[0] == 1
    assert shares[2] / shares[1] == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize(("registers", "blocks"), [(32, 8), (40, 6), (64, 4), (65, 3), (255, 1)])
def test_registers_limit_the_resident_blocks(registers, blocks):
    assert ROUND.resident_blocks(256, registers, 0) == blocks
    assert ROUND.resident_blocks(256, 32, 40 << 10) == 4


def test_latency_limits_few_warps():
    """Little's law: 16 bytes per thread and latency, with 8 resident blocks of 256 threads."""
    slow = GPU("slow", "sm_80", 100, 1.0, 400_000, 64, 32, 64, 32, 164, 100_000)
    loop = main_loop(copy_loop(), 4, 4)
    clocks = throughput.clocks(loop, 1e9, 0, slow, 64)
    assert clocks["latency"] == pytest.approx(100_000 / (64 * 32 * 4), rel=0.01)
    assert predict.predict(case(), kernel(copy_loop()), slow).bound == "latency"


def test_the_table_is_labeled_as_a_prediction():
    rows = [predict.predict(case(), kernel(copy_loop()), gpu) for gpu in GPUS]
    text = predict.table(rows) + "\n".join(predict.ASSUMPTIONS)
    assert "predicted share" in text.splitlines()[0]
    assert "measured" not in text
    assert len(predict.table(rows).splitlines()) == 1 + len(GPUS)


def test_grids_match_the_launchers():
    source = (ROOT / "csrc" / "cuda" / "reduce.cuh").read_text()
    blocks, threads = (
        int(re.search(rf"{name} = (\d+);", source)[1]) for name in ("kMaxBlocks", "kThreads")
    )
    assert {one.blocks for one in predict.CASES} == {blocks}
    assert threads == predict.THREADS


def test_launchers_queue_nothing_but_kernels():
    """The emulator's tests count the kernels; in addition, there must be no memset and no copy."""
    bridge = ROOT / "csrc" / "ops" / "cuda_bridge.cpp"
    for file in [bridge, *sorted((ROOT / "csrc" / "cuda").iterdir())]:
        text = re.sub(r"//.*", "", file.read_text())
        assert not re.search(r"cuda(Memset|Memcpy|LaunchKernel)|(zero|fill|copy)_\(", text), file
        assert not re.search(r"at::(zeros|ones|full|tensor|arange)\b", text), file
        assert "<<<" not in text or file.name == "launch.cuh", file


# --- this build --------------------------------------------------------------------------------------

INFO = pygan.build_info()
BUILT = {"sm_" + arch.removesuffix("+PTX").replace(".", "") for arch in INFO["cuda_archs"]}


@pytest.fixture(scope="module")
def rows():
    if not INFO["cuda"]:
        pytest.skip(INFO["cuda_reason"])
    if not {gpu.arch for gpu in GPUS} <= BUILT:
        pytest.skip("this build lacks an architecture of the table: " + " ".join(sorted(BUILT)))
    if sass.find_tools() is None:
        pytest.skip("cuobjdump and nvdisasm were not found (see tools/machine_code/sass.py)")
    return predict.rows()


def target(row):
    """The required share; docs/kernels.md explains why one is lower."""
    if row.dtype == "uint8 -> bfloat16" and row.gpu == "H100":
        return 0.65
    if row.gpu == "B200":  # the grid and the registers are tuned for an H100
        return 0.55 if row.dtype == "float32" else 0
    return 0.85 if row.dtype == "float32" else 0.75


def test_predicted_shares(rows):
    assert len(rows) == len(predict.CASES) * len(GPUS)
    shares = {(*row.label, row.gpu): (row.predicted_share, target(row)) for row in rows}
    assert not {label: share for label, share in shares.items() if share[0] < share[1]}


def test_the_counted_path_contains_all_the_work(rows):
    """The polynomials, loads and stores of all elements, and a reciprocal for each gradient, are on the counted
    path."""
    fp32 = {"noise": 12, "noise, per sample": 12, "feature matching": 2, "feature gradient": 1}
    for row in rows:
        assert row.local == 0, row
        assert row.instructions["fp32"] >= fp32.get(row.kernel, 16), row
        assert row.instructions["memory"] >= row.bytes / 16, row
        if row.kernel in ("loss and gradient", "loss backward"):
            assert row.instructions["special"] >= 1, row
