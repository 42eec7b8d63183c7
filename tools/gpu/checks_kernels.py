"""Checks of the kernels' results: noise, losses, gradients."""

import torch
from registry import FLOATS, check, session, worst

from pygan import NoiseStream, instance_noise, reference
from pygan.fused_losses import LOSSES, discriminator_loss, discriminator_loss_and_grad


def noise_cases():
    """Pairs of dtypes, stream offsets, and the three kinds of sigma."""
    for size in (1, 5, 257, 4097, 300_001):
        sigmas = (0.7, torch.tensor(0.3, dtype=torch.float64), torch.rand(size))
        for dtype in [*FLOATS, torch.uint8]:
            x = (torch.rand(size) * 255).to(dtype)
            for out_dtype in FLOATS:
                for offset in (0, 3, 4 * 2**32 - 130):
                    for sigma in sigmas:
                        yield x, sigma, offset, out_dtype


@check()
def noise_bits():
    """The noise is bitwise equal to the CPU's, also in misaligned memory."""
    wrong = []
    for x, sigma, offset, out_dtype in noise_cases():
        cpu, gpu = (
            NoiseStream(2**64 - 5, step=2**64 - 1, offset=offset, device=device)
            for device in ("cpu", session.device)
        )
        options = {"scale": 1 / 3, "bias": -0.5, "dtype": out_dtype}
        want = instance_noise(x, sigma, stream=cpu, **options)
        moved = torch.empty(len(x) + 3, dtype=x.dtype, device=session.device)[3:].copy_(x)
        given = sigma.to(session.device) if isinstance(sigma, torch.Tensor) else sigma
        got = instance_noise(moved, given, stream=gpu, **options).cpu()
        if not torch.equal(got, want) or gpu.state_dict() != cpu.state_dict():
            count = int((got != want).sum())
            wrong.append((len(x), str(x.dtype), str(out_dtype), offset, count))
    return {"wrong": wrong[:20], "ok": not wrong}


def loss_errors(loss, dtype, n):
    """Errors of value, gradients and statistics relative to the fp64 reference."""
    r, f = (
        (3 * torch.randn(n + 1, device=session.device)).to(dtype)[1:].requires_grad_()
        for _ in range(2)
    )
    wide = [x.detach().double().requires_grad_() for x in (r, f)]
    value, stats = discriminator_loss(r, f, loss=loss, return_stats=True)
    want, truth = reference.discriminator_loss(*wide, loss=loss, return_stats=True)
    # Sums, because the gradients of a mean of 3e6 logits are subnormal in fp16.
    total = discriminator_loss(r, f, loss=loss, reduction="sum")
    wide_total = reference.discriminator_loss(*wide, loss=loss, reduction="sum")
    pairs = zip(torch.autograd.grad(total, (r, f)), torch.autograd.grad(wide_total, wide))
    value_error = worst([abs(value.item() - want.item()) / max(1.0, abs(want.item()))])
    grad_error = worst(((a.double() - b).norm() / (b.norm() + 1e-300)).item() for a, b in pairs)
    numbers = [(a.item(), b.item()) for a, b in zip(stats, truth)]
    stats_error = worst(0.0 if a != a and b != b else abs(a - b) for a, b in numbers)
    return value_error, grad_error, stats_error


@check()
def loss_against_reference():
    """Value, gradients and statistics of every loss, in every dtype, at four sizes."""
    largest, wrong = 0.0, []
    sizes = (1, 257, 8193, 3_000_001 if session.cuda else 30_001)  # keep dry runs on the CPU short
    for loss in LOSSES:
        for dtype in FLOATS:
            eps = torch.finfo(dtype).eps
            limits = (3e-6, 4 * max(eps, 2e-6), 1e-4)
            if dtype == torch.float64:
                limits = (1e-11, 1e-11, 1e-9)
            for n in sizes:
                errors = loss_errors(loss, dtype, n)
                if not all(error < limit for error, limit in zip(errors, limits)):
                    wrong.append((loss, str(dtype), n, *errors))
                if dtype != torch.float64:
                    largest = max(largest, errors[0])
    return {"worst_relative": largest, "wrong": wrong[:20], "ok": not wrong}


@check()
def gradient_bits():
    """Gradients use the CPU's arithmetic for each element, except for the division: how many bits differ?"""
    differ = {}
    for loss in LOSSES:
        # Its gradients contain means, which are summed in another order.
        if "relativistic_average" in loss:
            continue
        for dtype in FLOATS:
            r, f = ((3 * torch.randn(200_003)).to(dtype) for _ in range(2))
            cpu = discriminator_loss_and_grad(r, f, loss=loss, reduction="sum")
            moved = (x.to(session.device) for x in (r, f))
            gpu = discriminator_loss_and_grad(*moved, loss=loss, reduction="sum")
            count = sum(int((x != y.cpu()).sum()) for x, y in zip(cpu.grads, gpu.grads))
            if count:
                differ[f"{loss} {dtype}"] = count
    return {"differ": differ, "ok": not differ}


@check(limit=30, cuda_only=True)
def noise_bits_of_many():
    """2**28 normals are bitwise equal to the CPU's, so the GPU's square_root() (csrc/math/hd.h), which corrects an
    approximate reciprocal square root, rounds correctly."""
    n, pieces = 1 << 25, 8
    wrong, xs, streams = 0, [], []
    for device in ("cpu", session.device):
        xs.append(torch.zeros(n, device=device))
        streams.append(NoiseStream(2024, device=device))
    noisy = [torch.empty_like(x) for x in xs]
    for piece in range(pieces):  # each piece is a step of the stream
        for x, stream, out in zip(xs, streams, noisy):
            instance_noise(x, 1.0, stream=stream, out=out)
        want, got = (x.cpu().view(torch.int32) for x in noisy)
        if not torch.equal(want, got):
            wrong += int((want != got).sum())
        session.found.update(drawn=(piece + 1) * n, wrong=wrong)
    return {"drawn": pieces * n, "wrong": wrong, "ok": wrong == 0}
