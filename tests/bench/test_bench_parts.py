"""The parts of `pygan.bench`: the op counter, the fit, the speedup of a row, the reference times."""

import warnings

import pytest
import torch

from pygan.bench import plots, report, scaling
from pygan.bench.counting import counted
from pygan.bench.limits import Limits
from pygan.bench.ops import Row
from pygan.bench.timing import Timing, interleaved, peak_memory

CPU = torch.device("cpu")


def test_count_of_ops_and_kernels():
    """Views, allocations and detach start no kernel; backward passes are counted."""
    x = torch.randn(4, 6, requires_grad=True)

    def step():
        x.grad = None
        y = x.t()[1:].detach()
        torch.empty(3)
        (y.sum() * x.exp().sum()).backward()

    counts = counted(step)
    assert counts.names["aten::exp"] == counts.names["aten::t"] == counts.names["aten::empty"] == 1
    assert counts.ops == sum(counts.names.values())
    kernels = sum(counts.names[f"aten::{name}"] for name in ("sum", "exp", "mul", "ones_like"))
    assert counts.kernels == kernels >= 6
    assert counts.flops == 0


def test_count_of_flops_includes_backward_passes():
    layer = torch.nn.Conv2d(3, 5, 3, bias=False)
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    forward = 2 * (2 * 5 * 6 * 6) * (3 * 3 * 3)  # a multiply-add per output and weight
    assert counted(lambda: layer(x).sum().backward()).flops == 3 * forward


def test_peak_memory():
    def call(x):
        a = x + 1  # two tensors at a time
        b = a * 2
        del a
        return b.sum()

    peak = peak_memory(call, lambda: [torch.zeros(1 << 18)], CPU)
    assert 2 << 20 <= peak <= (2 << 20) + 64


def test_every_call_uses_every_buffer():
    seen = {"a": set(), "b": set()}
    calls = {name: seen[name].add for name in seen}
    times = interleaved(calls, [(k,) for k in range(5)], device=CPU, seconds=0)
    assert seen == {"a": set(range(5)), "b": set(range(5))}
    assert all(0 < t.low <= t.median <= t.high for t in times.values())


def test_fit_of_a_smooth_curve():
    points = [scaling.Point("op", 1, 4**k, Timing(3 + 4**k / 250, 0, 0)) for k in range(12)]
    (fit,) = scaling.fits(points)
    assert (fit.c, fit.rate) == pytest.approx((3, 250))
    assert (fit.worst, fit.step) == pytest.approx((1, 1))
    points[6].time = Timing(3 * points[6].time.median, 0, 0)
    (fit,) = scaling.fits(points)
    assert fit.step > 2


def row(n, gain):
    eager, pygan = Timing(gain, gain, gain), Timing(1.0, 1.0, 1.0)
    rest = {"others": {}, "limit": 0.5, "limited_by": "copy", "pygan_memory": 0, "eager_memory": 0}
    return Row("op", "forward", "float32", n, 8 * n, pygan, eager, None, **rest)


def test_ratios_of_a_row():
    assert row(1, 0.5).gain == 0.5
    assert row(1, 0.5).of_limit == 2


def test_the_limit_is_the_slowest_reference_call():
    limits = Limits(forward=2.0, backward=10.0, engine=5.0)
    assert limits.of("forward", 3.0, 0.0) == (2.0, "dispatch")  # a copy that is mostly dispatch
    assert limits.of("forward", 30.0, 0.0) == (30.0, "copy")
    assert limits.of("forward + backward", 8.0, 0.0) == (10.0, "dispatch")
    assert limits.of("loss_and_grad + backward", 8.0, 0.0) == (8.0, "copy")
    assert limits.of("forward", 30.0, 1000.0) == (1000.0, "normals")


def test_number_formats():
    assert [report.count(n) for n in (1, 1000, 1 << 12, 3 << 20, 1 << 30)] == [
        *("1", "1000", "4 Ki", "3 Mi", "1 Gi"),
    ]
    assert [report.amount(n) for n in (0, 1023, 1536, 5 << 20)] == [
        *("0 B", "1023 B", "1.5 KiB", "5.0 MiB"),
    ]
    assert report.geometric_mean([2.0, 8.0]) == pytest.approx(4)


def test_plots_contain_a_step_slower_than_plain_pytorch(tmp_path):
    pytest.importorskip("matplotlib")
    about = {"threads": 1, "device": "cpu", "backend": "avx2"}
    steps = [{"model": "MLP", "way": "plain PyTorch", "to_plain": 1.0}]
    steps += [{"model": "MLP", "way": "GANTrainer", "to_plain": 4.0}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the layout fails if a number lies outside the axes
        assert [path.name for path in plots.draw(tmp_path, about, [], steps)] == ["steps.png"]
