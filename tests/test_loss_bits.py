"""The losses give the same bits on any number of threads, with any instruction set, in any run."""

import pytest
from helpers import DEVICES, FLOATS, each_way_to_run
from helpers_losses import assert_same_bits, logits_like, results_of

from pygan.fused_losses import LOSSES


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [257, 9_001])
def test_bits_do_not_depend_on_threads_or_instruction_set(size, dtype, loss, restore):
    real, fake = logits_like(["real", "fake"], (size,), dtype, "cpu", 0)
    real[::11] *= 1000 / 11  # saturated ones too
    first = None
    for way in each_way_to_run():
        results = results_of(real, fake, loss)
        first = results if first is None else first
        assert_same_bits(first, results, way)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_bits_do_not_change_from_run_to_run(dtype, device):
    real, fake = logits_like(["real", "fake"], (17_001,), dtype, device, 0)
    first = results_of(real, fake, "non_saturating")
    for _ in range(2):
        assert_same_bits(first, results_of(real, fake, "non_saturating"))
