"""Checks of the losses' options and additional results, and of feature matching, against the CPU and fp64."""

import torch
from registry import FLOATS, check, session, worst

from pygan import NoiseStream, instance_noise, reference
from pygan._loss_arguments import ALONE, TO_MEAN, info
from pygan.fused_losses import (
    LOSSES,
    discriminator_loss_and_grad,
    feature_matching,
    feature_matching_and_grad,
    generator_loss_and_grad,
)

SHAPES = ((16, 128), (16, 65), (3, 4097), (1,), (2, 1, 30, 30))


def loss_calls(loss):
    """Options of the discriminator's loss, other than parts and statistics."""
    yield {"weights": [0.5, 0.0, -2.0, 1.0, 3.0]}
    if info(loss).compared == TO_MEAN:
        yield {"detach_means": True}
    if info(loss).compared == ALONE and info(loss).d_targets:
        yield {"real_target": 0.75, "fake_target": 0.25}


def flat(result):
    stats = [] if result.stats is None else [x for x in result.stats if not x.isnan()]
    parts = [x for x in result.parts or () if x is not None]
    grads = [g for side in result.grads for g in side]
    return [x.double().cpu() for x in (result.loss, *stats, *parts, *grads)]


@check()
def loss_options():
    """Targets, detached means, weights, parts and statistics equal the CPU's up to rounding."""
    wrong = []
    for loss in LOSSES:
        for dtype in FLOATS:
            sides = [[(3 * torch.randn(s)).to(dtype) for s in SHAPES] for _ in range(2)]
            moved = [[x.to(session.device) for x in side] for side in sides]
            for options in loss_calls(loss):
                for stats in (False, True):
                    options = {**options, "loss": loss, "return_stats": stats, "return_parts": True}
                    want, got = (
                        flat(discriminator_loss_and_grad(*given, **options))
                        for given in (sides, moved)
                    )
                    error = worst(
                        ((a - b).norm() / (b.norm() + 1e-6)).item() for a, b in zip(got, want)
                    )
                    if not error < 4 * max(torch.finfo(dtype).eps, 1e-6):
                        wrong.append((loss, str(dtype), str(options), error))
    return {"wrong": wrong[:20], "ok": not wrong}


@check()
def weight_on_the_device():
    """Multiplying by a 0-d weight does not synchronize."""
    x = torch.randn(1000, device=session.device)
    weight = torch.tensor(0.25, device=session.device)
    if session.cuda:
        torch.cuda.set_sync_debug_mode("error")
    try:
        result = generator_loss_and_grad(x, weights=weight, return_parts=True)
    finally:
        if session.cuda:
            torch.cuda.set_sync_debug_mode("default")
    plain = generator_loss_and_grad(x, weights=0.25)
    same = torch.allclose(result.grads[0], plain.grads[0]) and torch.allclose(
        result.loss, plain.loss
    )
    return {"ok": bool(same)}


@check()
def feature_matching_against_reference():
    """Values, gradients and bitwise reproducibility for lists of odd shapes in memory of any alignment."""
    wrong = []
    for dtype in FLOATS:
        for norm in ("l1", "l2"):
            for relative in (False, True):
                fake, real = (
                    [
                        torch.randn(s.numel() + 1, device=session.device)
                        .to(dtype)[k % 2 :][: s.numel()]
                        .view(s)
                        for k, s in enumerate(map(torch.Size, SHAPES))
                    ]
                    for _ in range(2)
                )
                fake = [f.requires_grad_() for f in fake]
                options = {"norm": norm, "relative": relative, "weights": 2.0}
                loss = feature_matching(fake, real, **options)
                grads = torch.autograd.grad(loss, fake)
                wide = [f.detach().double().requires_grad_() for f in fake]
                want, _ = reference.feature_matching(
                    wide, real, norm=norm, relative=relative, weights=[2.0] * len(wide)
                )
                pairs = list(zip(grads, torch.autograd.grad(want, wide)))
                error = worst(
                    [
                        abs(loss.item() - want.item()) / want.item(),
                        *(((a.double() - b).norm() / b.norm()).item() for a, b in pairs),
                    ]
                )
                direct, _ = feature_matching_and_grad(fake, real, **options)
                again = feature_matching(fake, real, **options)
                same = torch.equal(again, loss) and torch.equal(direct, loss)
                if not (same and error < 4 * max(torch.finfo(dtype).eps, 1e-6)):
                    wrong.append((str(dtype), norm, relative, error, bool(same)))
    return {"wrong": wrong, "ok": not wrong}


@check()
def noise_bits_of_scales():
    """Noise with a scale per sample, and the same noise for two tensors, are bitwise equal to the CPU's."""
    wrong = []
    for dtype in FLOATS:
        for sigma in (0.5, torch.rand(37)):
            x, y = (torch.randn(37, 4099).to(dtype) for _ in range(2))
            scale, results = torch.rand(37), []
            for device in ("cpu", session.device):
                stream = NoiseStream(7, device=device)
                given = sigma.to(device) if isinstance(sigma, torch.Tensor) else sigma
                both = instance_noise(
                    [x.to(device), y.to(device)],
                    given,
                    stream=stream,
                    scale=scale.to(device),
                    same_noise=True,
                )
                results.append([z.cpu() for z in both])
            if not all(torch.equal(a, b) for a, b in zip(*results)):
                wrong.append((str(dtype), isinstance(sigma, torch.Tensor)))
    return {"wrong": wrong, "ok": not wrong}
