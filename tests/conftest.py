"""What all tests share: those marked `cuda` are skipped, and counted, where they cannot run."""

import pytest
import torch

import pygan


def _why_not_cuda() -> str:
    if not torch.cuda.is_available():
        return f"no CUDA device (torch {torch.__version__})"
    if not pygan.build_info()["cuda"]:
        return "this build has no CUDA kernels: " + pygan.build_info()["cuda_reason"]
    return ""


WHY_NOT_CUDA = _why_not_cuda()


def pytest_collection_modifyitems(items):
    if WHY_NOT_CUDA:
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="cuda: " + WHY_NOT_CUDA))


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum("cuda" in report.keywords for report in skipped)
    if WHY_NOT_CUDA and count:
        terminalreporter.write_line(f"{count} tests marked cuda were skipped: {WHY_NOT_CUDA}")
