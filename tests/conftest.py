"""What all tests share: fixtures, and that those marked `cuda` are skipped, and counted, where they cannot run."""

import pytest
import torch

import pygan
from pygan import _C

# That a failed assertion in a helper shows its values too.
pytest.register_assert_rewrite(
    *("helpers", "helpers_compile", "helpers_cuda", "helpers_fit", "helpers_losses"),
    *(
        "helpers_monitor",
        "helpers_noise",
        "helpers_quality",
        "helpers_schedules",
        "helpers_sync",
        "helpers_trainer",
        "helpers_truth",
    ),
)


@pytest.fixture
def restore():
    """Puts the instruction set and the number of threads back."""
    capability, threads = _C.cpu_capability(), torch.get_num_threads()
    yield
    _C.use_cpu_capability(capability)
    torch.set_num_threads(threads)


@pytest.fixture
def fresh():
    """Nothing compiled, and torch's generators seeded."""
    torch._dynamo.reset()
    torch.manual_seed(0)


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
