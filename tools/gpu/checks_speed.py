"""Measurements: the kernels' bandwidth relative to a copy's, and the host's time per call."""

import time

import torch
from checks_graphs import captured
from registry import check, error_text, session, sync, sync_after_failure

from pygan import NoiseStream, instance_noise
from pygan.fused_losses import (
    LOSSES,
    discriminator_loss,
    discriminator_loss_and_grad,
    generator_loss,
)

L2_CACHE = 50e6  # bytes, of an H100
COLUMNS = ["call", "dtype", "n", "us", "GB/s", "of copy"]


def device_time(function, loops=20):
    """GPU time per call in µs, from a graph of function(0), function(1), ..., so without Python and launches."""

    def loop():
        # Kept alive, so that each result has its own memory.
        results = [function(k) for k in range(loops)]
        del results

    graph, _ = captured(loop, warm=1)
    times = []
    for _ in range(8):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        sync()
        times.append(1e3 * begin.elapsed_time(end) / loops)
    return sorted(times)[len(times) // 2]


class Buffers:
    """Tensors of n elements that calls use in turn, so that no call finds its input in the L2 cache.

    The smallest size is measured within the cache, with a single tensor of each kind.
    """

    def __init__(self, n, dtype):
        count = 1 if n == 1 << 20 else max(2, round(6 * L2_CACHE / (n * dtype.itemsize)))
        self.xs, self.ys, self.outs = (
            [torch.randn(n, device="cuda").to(dtype) for _ in range(count)] for _ in range(3)
        )
        self.images = [
            torch.randint(0, 255, (n,), dtype=torch.uint8, device="cuda") for _ in range(2 * count)
        ]

    def x(self, k):
        return self.xs[k % len(self.xs)]

    def y(self, k):
        return self.ys[k % len(self.ys)]

    def out(self, k):
        return self.outs[k % len(self.outs)]

    def image(self, k):
        return self.images[k % len(self.images)]


def measured_calls(b, n, size):
    """{name: (function that makes the k-th call, bytes that it moves per element)}"""
    s = NoiseStream(0, device="cuda")
    one, each = torch.ones((), device="cuda"), torch.rand(n // 4096, device="cuda")
    nothing = torch.empty(0, device="cuda")
    index = LOSSES.index("non_saturating")

    def noise(k):
        return instance_noise(b.x(k), 0.5, stream=s, out=b.out(k))

    def noise_per_sample(k):
        rows, out = b.x(k).view(-1, 4096), b.out(k).view(-1, 4096)
        return instance_noise(rows, each, stream=s, out=out)

    def noise_of_images(k):
        options = {"scale": 1 / 127.5, "bias": -1.0}
        return instance_noise(b.image(k), 0.5, stream=s, out=b.out(k), **options)

    def loss_and_grad(k, loss="non_saturating"):
        return discriminator_loss_and_grad(b.x(k), b.y(k), loss=loss)

    def backward(k):
        return torch.ops.pygan.gan_loss_backward(one, [b.x(k)], nothing, [2], index, 0.0, [], 0)

    def features(k):
        return torch.ops.pygan.feature_matching([b.x(k)], [b.y(k)], [1.0], 0, False, True)

    signs = [features(k)[3] for k in range(len(b.outs))]
    code = {torch.float32: 6, torch.bfloat16: 15}[b.x(0).dtype]

    def feature_gradient(k):
        return torch.ops.pygan.feature_matching_l1_backward(
            one, one[None], signs[k % len(signs)], [code]
        )

    return {
        "noise out=": (noise, 2 * size),
        "noise, sigma per sample": (noise_per_sample, 2 * size),
        "noise uint8": (noise_of_images, 1 + size),
        "generator loss": (lambda k: generator_loss(b.x(k)), size),
        "generator loss, statistics": (lambda k: generator_loss(b.x(k), return_stats=True), size),
        "discriminator loss": (lambda k: discriminator_loss(b.x(k), b.y(k)), 2 * size),
        "discriminator loss_and_grad": (loss_and_grad, 4 * size),
        "hinge loss_and_grad": (lambda k: loss_and_grad(k, "hinge"), 4 * size),
        "wasserstein": (lambda k: discriminator_loss(b.x(k), b.y(k), loss="wasserstein"), 2 * size),
        "backward": (backward, 2 * size),
        "feature matching": (features, 2 * size + 1),  # plus the signs, a byte per element
        "feature gradient": (feature_gradient, 1 + size),
        "torch sum": (lambda k: b.x(k).sum(), size),
        "torch x + sigma randn": (lambda k: b.x(k) + 0.5 * torch.randn_like(b.x(k)), 2 * size),
    }


def rates(n, dtype):
    """Rows of COLUMNS; a row is shorter and ends in an error if the call failed. The buffers are freed at the end."""
    b, name, size = Buffers(n, dtype), str(dtype).removeprefix("torch."), dtype.itemsize
    loops = 20 if n < 1 << 27 else 4
    copy = device_time(lambda k: b.out(k).copy_(b.x(k)), loops)
    copy_rate = 2 * size * n / copy / 1e3
    for call, (function, moved) in measured_calls(b, n, size).items():
        try:
            us = device_time(function, loops)
            rate = moved * n / us / 1e3
            yield [call, name, n, round(us, 2), round(rate), round(rate / copy_rate, 3)]
        except Exception as error:
            yield [call, name, n, error_text(error)]
            sync_after_failure()
    yield ["copy", name, n, round(copy, 2), round(copy_rate), 1.0]


@check(limit=60, cuda_only=True)
def bandwidth():
    """Bandwidth of each kernel in GB/s, and relative to a copy of as many elements."""
    rows = []
    session.found.update(rows=rows)
    for n in (1 << 20, 1 << 24, 1 << 27):
        for dtype in (torch.float32, torch.bfloat16):
            for row in rates(n, dtype):
                # One by one, so that they are reported even if the check does not finish.
                rows.append(row)
    failed = [row for row in rows if len(row) != len(COLUMNS)]
    return {"columns": COLUMNS, "rows": rows, "ok": not failed}


@check(cuda_only=True, on_request=True)
def each_kernel_once():
    """Each kernel in two dtypes with 16 Mi elements, for a profiler."""
    n = 1 << 24
    for dtype in (torch.float32, torch.bfloat16):
        x, y = (torch.randn(n, device="cuda").to(dtype) for _ in range(2))
        image = torch.randint(0, 255, (n,), dtype=torch.uint8, device="cuda")
        s, each = NoiseStream(0, device="cuda"), torch.rand(n // 4096, device="cuda")
        instance_noise(x, 0.5, stream=s)
        instance_noise(x.view(-1, 4096), each, stream=s)
        instance_noise(image, 0.5, stream=s, dtype=dtype)
        discriminator_loss(x, y)
        discriminator_loss(x, y, return_stats=True)
        discriminator_loss_and_grad(x, y)
        generator_loss(x.requires_grad_()).backward()
    sync()
    return {"ok": True}


@check()
def launch_overhead():
    """Host time in µs for a call with 64 elements."""
    x, s = torch.randn(64, device=session.device), NoiseStream(0, device=session.device)
    calls = {
        "instance_noise": lambda: instance_noise(x, 0.5, stream=s),
        "generator_loss": lambda: generator_loss(x),
        "with statistics": lambda: generator_loss(x, return_stats=True),
        "x + 1": lambda: x + 1,
    }
    rows = {}
    for name, call in calls.items():
        for _ in range(100):
            call()
        sync()
        start = time.perf_counter()
        for _ in range(2000):
            call()
        rows[name] = round(1e6 * (time.perf_counter() - start) / 2000, 2)
        sync()
    return {**rows, "ok": True}
