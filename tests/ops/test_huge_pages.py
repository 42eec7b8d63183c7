"""Large results on the CPU are mapped with huge pages, if the system supports them."""

import re
from pathlib import Path

import pytest
import torch

from pygan import instance_noise
from pygan.fused_losses import discriminator_loss_and_grad, feature_matching_and_grad

ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
MAPS = Path("/proc/self/smaps")
pytestmark = pytest.mark.skipif(
    not ENABLED.exists() or not MAPS.exists(), reason="no transparent huge pages"
)


def is_advised(x):
    """Whether huge pages were requested in the middle of x's memory."""
    middle = x.data_ptr() + x.nbytes // 2
    inside = False
    for line in MAPS.read_text("utf-8").splitlines():
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(found[1], 16) <= middle < int(found[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return "hg" in line.split()
    raise AssertionError("memory that is not mapped")


def test_large_results_use_huge_pages():
    x, y = torch.zeros(1 << 24), torch.ones(1 << 24)
    assert is_advised(instance_noise(x, 0.5))
    assert is_advised(discriminator_loss_and_grad(x, y).grads[1])
    assert is_advised(feature_matching_and_grad([x], [y])[1][0])
    assert not is_advised(torch.empty(1 << 25).fill_(1))
