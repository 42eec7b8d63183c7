"""Times the fused ops against the eager PyTorch that a user would write: `python benchmarks/against_eager.py`.

Each pair is run in turn (A B A B ...), so that a drift of the machine's speed hits both; the table
gives medians and their ratio, also where it is below 1. Options: --threads N, --device cuda,
--markdown for the README's table.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F

import pygan
from pygan import fused_losses


def interleaved(functions, seconds, sync):
    """The median time of one call of each function, in seconds."""

    def sample(function, calls):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        sync()
        return (time.perf_counter() - start) / calls

    for function in functions:
        sample(function, 3)
    # Runs of 2 ms each: long enough for the clock, and for a thread pool to wake up once, not at every call.
    calls = [max(1, int(2e-3 / sample(function, 5))) for function in functions]
    times = [[] for _ in functions]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[-1]) < 9:
        for function, count, samples in zip(functions, calls, times, strict=True):
            samples.append(sample(function, count))
    return [statistics.median(samples) for samples in times]


def noise_pair(n, device):
    x, out = torch.randn(n, device=device), torch.empty(n, device=device)
    stream = pygan.NoiseStream(0, device=device)
    return {
        "instance noise": (
            lambda: x + 0.5 * torch.randn_like(x),
            lambda: pygan.instance_noise(x, 0.5, stream=stream),
        ),
        "instance noise, out=": (
            lambda: x + 0.5 * torch.randn_like(x),
            lambda: pygan.instance_noise(x, 0.5, stream=stream, out=out),
        ),
    }


def loss_pair(n, device):
    real = torch.randn(n, device=device, requires_grad=True)
    fake = torch.randn(n, device=device, requires_grad=True)
    ones, zeros = torch.ones(n, device=device), torch.zeros(n, device=device)
    bce = F.binary_cross_entropy_with_logits

    def backward(loss, *inputs):
        for x in inputs:
            x.grad = None
        loss.backward()

    return {
        "D loss, softplus": (
            lambda: backward(F.softplus(-real).mean() + F.softplus(fake).mean(), real, fake),
            lambda: backward(fused_losses.discriminator_loss(real, fake), real, fake),
        ),
        "D loss, BCE with logits": (
            lambda: backward(bce(real, ones) + bce(fake, zeros), real, fake),
            lambda: backward(fused_losses.discriminator_loss(real, fake), real, fake),
        ),
        "G loss, softplus": (
            lambda: backward(F.softplus(-fake).mean(), fake),
            lambda: backward(fused_losses.generator_loss(fake), fake),
        ),
    }


def floor(device):
    """About the least that a forward and backward pass from two leaves can take."""
    a, b = (torch.randn(64, device=device, requires_grad=True) for _ in range(2))

    def run():
        a.grad = b.grad = None
        (a.sum() + b.sum()).backward()

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=2.0, help="per row")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    info = pygan.build_info()
    cpu = args.device == "cpu"
    where = info["cpu_capability"] if cpu else torch.cuda.get_device_name(args.device)
    print(f"torch {info['torch_running']}, {args.device} ({where}), {args.threads} threads, fp32")
    print("Median µs a call, forward + backward for the losses.\n")
    layout = "{:26} {:>9} {:>11} {:>11} {:>9}"
    if args.markdown:
        layout = "| {} | {} | {} | {} | {} |"
    print(layout.format("op", "N", "eager", "pygan", "ratio"))
    if args.markdown:
        print("|---|---|---|---|---|")
    sync = (lambda: None) if cpu else torch.cuda.synchronize
    rows = [(noise_pair, n) for n in (1 << 16, 1 << 20, 1 << 24)]
    rows += [(loss_pair, n) for n in (64, 1 << 12, 1 << 16, 1 << 20)]
    for make, n in rows:
        for name, pair in make(n, args.device).items():
            eager, fused = interleaved(pair, args.seconds, sync)
            row = (f"{eager * 1e6:.1f}", f"{fused * 1e6:.1f}", f"{eager / fused:.1f} x")
            print(layout.format(name, n, *row), flush=True)
    (least,) = interleaved([floor(args.device)], args.seconds, sync)
    print(f"\nFor scale, (a.sum() + b.sum()).backward() on 64 logits: {least * 1e6:.1f} µs")


if __name__ == "__main__":
    main()
