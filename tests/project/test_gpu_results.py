"""The conversion of tools/gpu/check.sh's results to tables of docs/benchmarks.md, with invented numbers."""

import importlib
import json
import sys

import pytest
from helpers import ROOT

sys.path += [str(ROOT / "tools" / "gpu"), str(ROOT / "tools" / "docs")]
gpu_page, keep = map(importlib.import_module, ("gpu_page", "keep"))

CPU = max((ROOT / "benchmarks").glob("20??-??-??-*/ops.csv")).parent
N = 1 << 24
ABOUT = {"check": "about", "devices": ["NVIDIA H100 80GB HBM3"], "torch_running": "2.11.0+cu130"}
BANDWIDTH = {
    "check": "bandwidth",
    "rows": [
        ["discriminator loss", "float32", N, 50.5, 2658, 0.95],
        ["noise out=", "bfloat16", N, 30.0, 2237, 0.70],
        ["noise uint8", "bfloat16", N, 30.0, 1678, 0.69],
        ["noise uint8", "float32", N, "RuntimeError: planted"],
        ["copy", "float32", 1 << 20, 2.0, 4194, 1.0],
    ],
}
STATIC = [
    {"kernel": "loss", "dtype": "float32", "gpu": "H100", "predicted_share": 0.96},
    {"kernel": "noise", "dtype": "bfloat16", "gpu": "H100", "predicted_share": 0.83},
    {"kernel": "noise", "dtype": "bfloat16", "gpu": "B200", "predicted_share": 0.32},
]
NCU = """==PROF== Connected to process 1
"ID","Kernel Name","dram__bytes.sum","dram__throughput.avg.pct_of_peak_sustained_elapsed","gpu__time_duration.sum",\
"launch__registers_per_thread","sm__throughput.avg.pct_of_peak_sustained_elapsed",\
"sm__warps_active.avg.pct_of_peak_sustained_active"
"","","byte","%","ns","register/thread","%","%"
"0","void pygan::cuda::gan_loss_sums_kernel<float, (pygan::cuda::With)0>(pygan::cuda::Args)","134,217,728","91.2",\
"50,100","64","40.4","49.9"
=== slow
"""


@pytest.fixture
def folder(tmp_path):
    """benchmarks/2026-12-24-h100, copied from the reports of two commands."""
    first, second = tmp_path / "first", tmp_path / "second"
    for report, line in (
        (
            first,
            "tests-own: rc=0, 60 s: ==== 972 passed, 1 skipped in 58.10s ====\ntests-matrix: rc=124, 110 s: a | b",
        ),
        (
            second,
            "bench: rc=0, 40 s: Written: /tmp/x\nncu: not run, ncu was not found\ndone after 90 s; failed: none",
        ),
    ):
        report.mkdir()
        (report / "0-summary.txt").write_text(line + "\n")
    lines = [ABOUT, {"began": "bandwidth"}, BANDWIDTH]
    (first / "1-first.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    bench = json.loads((CPU / "bench.json").read_text("utf-8"))
    bench["about"]["device"] = ABOUT["devices"][0]
    (second / "4-bench.json").write_text(json.dumps(bench))
    (second / "4-bench.log").write_text(NCU)
    folder = tmp_path / "benchmarks" / "2026-12-24-h100"
    keep.keep(folder, [first, second])
    return folder


def test_the_newest_gpu_folder_is_used(folder, tmp_path):
    assert gpu_page.newest(folder.parent) == folder
    assert gpu_page.newest(tmp_path / "nothing") is None
    names = {path.name for path in folder.iterdir()}
    assert names == {"first.jsonl", "bench.json", "ncu.csv", "summary.txt"}


def test_the_section_compares_predictions_with_measurements(folder):
    page = gpu_page.section(folder, STATIC)
    assert page.startswith("## Measured on an H100\n")
    assert "2026-12-24, NVIDIA H100 80GB HBM3, torch 2.11.0+cu130." in page
    assert "| loss | float32 | 2658 | 95% | 96% |  |" in page
    assert "| noise | bfloat16 | 2237 | 70% | 83% | unexplained |" in page
    assert "| noise | uint8 -> bfloat16 | 1678 | 69% | – |  |" in page
    assert "| copy | float32 | 1 Mi | 2.0 | 4194 | 100% |" in page
    assert "| `gan_loss_sums_kernel<float, 0>` | 50 | 134 | 91 | 40 | 50 | 64 |" in page
    assert "| tests-own | 0 | 60 | 972 passed, 1 skipped in 58.10s |  |" in page
    assert "| tests-matrix | 124 | 110 | a \\| b |  |" in page
    assert "| bench | 0 | 40 |  |  |" in page
    assert "| ncu | – | – | not run, ncu was not found |  |" in page
    assert "planted" not in page and "done after" not in page

    reasons = {
        "noise, bfloat16": "the issue slots",
        "stages": {"tests-matrix": "stopped by the limit"},
    }
    (folder / "reasons.json").write_text(json.dumps(reasons))
    page = gpu_page.section(folder, STATIC)
    assert "| noise | bfloat16 | 2237 | 70% | 83% | the issue slots |" in page
    assert "| tests-matrix | 124 | 110 | a \\| b | stopped by the limit |" in page


def test_two_reports_with_the_same_file_are_refused(folder, tmp_path):
    third = tmp_path / "third"
    third.mkdir()
    (third / "0-summary.txt").write_text("ncu: rc=0, 9 s\n")
    (third / "4-bench.log").write_text(NCU)
    with pytest.raises(
        SystemExit, match=r"only one report may have ncu.csv, got .*second and .*third"
    ):
        keep.keep(tmp_path / "new", [tmp_path / "second", third])
    assert not (tmp_path / "new").exists()


def test_missing_results_are_left_out(folder):
    for name in ("bench.json", "ncu.csv", "summary.txt"):
        (folder / name).unlink()
    page = gpu_page.section(folder, [])
    assert "| loss | float32 | 2658 | 95% | – |  |" in page
    assert "Nsight" not in page and "Stages" not in page and "steps" not in page


def test_every_prediction_has_a_measurement():
    rows = json.loads((CPU / "static.json").read_text("utf-8"))["static"]
    assert {(row["kernel"], row["dtype"]) for row in rows} == set(gpu_page.MEASURED_AS)
