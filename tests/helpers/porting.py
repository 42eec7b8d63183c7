"""Inputs for the calls of docs/porting.md, and the formulas for comparison, in plain PyTorch."""

import math
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F

import pygan
from pygan import fused_losses, penalties

BATCH = 2
PERIODS = (2, 3, 5, 7, 11)
SEGMENT = 8192  # length of HiFi-GAN's training samples
FIRST_MEANS = (0.4, -0.2)  # means of the logits in LeCam's first step


def hifigan_lengths():
    """Lengths of the logits of HiFi-GAN's eight discriminators, flattened."""

    def strided(length, strides):
        for stride in strides:
            length = math.ceil(length / stride)
        return length

    periods = [p * strided(math.ceil(SEGMENT / p), (3, 3, 3, 3)) for p in PERIODS]
    pooled = (SEGMENT, SEGMENT // 2 + 1, SEGMENT // 4 + 1)
    return periods + [strided(length, (2, 2, 4, 4)) for length in pooled]


def network(channels):
    """A smooth discriminator of (N, 12) with several logits a sample."""
    return nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, channels))


def inputs(section, dtype):
    """The names in a section's calls. Tensors that require grad are leaves, new for every call."""
    draw = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype)

    def leaf(*shape, mean=0.0):
        return (2 * normal(*shape) + mean).requires_grad_()

    def logits(mean):
        if section == "Vocoders and codecs":
            return [leaf(BATCH, length, mean=mean) for length in hifigan_lengths()]
        shapes = {
            "Image GANs": (16, 1),
            "Super-resolution and translation": (BATCH, 1, 256, 256),  # Real-ESRGAN's U-Net
            "Diffusion distillation": (4, 5),
        }
        return leaf(*shapes.get(section, (4, 1, 30, 30)), mean=mean)

    def maps():
        """Maps of two discriminators, each with three layers and logits."""
        shapes = ((BATCH, 8, 33), (BATCH, 16, 11), (BATCH, 16, 11), (BATCH, 1, 11))
        return [[leaf(*shape) for shape in shapes] for _ in range(2)]

    n = SimpleNamespace(r=logits(1.0), f=logits(-1.0), maps_r=maps(), maps_f=maps())
    n.scales_r, n.scales_f = ([leaf(4, 1, k, k) for k in (30, 15, 8)] for _ in "rf")
    n.output, n.n_layers, n.num_D = n.maps_f, 2, 2
    n.x, n.y = leaf(6, 12), leaf(6, 12)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        n.D = network(3).to(dtype)
        n.G = nn.Sequential(network(12), nn.Unflatten(1, (1, 3, 4))).to(dtype)
    n.a, n.b, n.c, n.w, n.eps = 0.3, 0.8, 0.7, 0.1, 0.2
    n.gamma, n.weight, n.sigma = 2.0, 10.0, 0.1
    if section == "Image GANs":
        n.t = 0.2
    else:
        n.t = torch.rand((4, 1, 1, 1), generator=draw).to(dtype)
    if section == "Per-sample labels and weights":
        n.w = torch.tensor([0.5, 0.0, 2.0, 1.0], dtype=dtype)
    n.step, n.n = 3, 2
    n.last_layer = leaf(5, 12)
    decoded = n.x.detach() @ n.last_layer.T
    n.nll, n.g_loss = decoded.square().mean(), -decoded.tanh().mean()
    n.scales, n.sigmas = (torch.rand(6, generator=draw).to(dtype) for _ in "ab")
    n.stream = pygan.NoiseStream(5)
    n.z = pygan.instance_noise(torch.zeros(6, 12, dtype=dtype), 1.0, stream=pygan.NoiseStream(5))
    n.lecam, n.path_length = lecam, path_length
    n.latents, n.generator = leaf(6, 12), torch.Generator().manual_seed(1)
    return n


def lecam(real_logits, fake_logits):
    """The penalty in the second step, with the averages of the first."""
    penalty = penalties.LeCam(0.3, decay=0.9)
    penalty(*(torch.tensor(mean, dtype=torch.float64) for mean in FIRST_MEANS))
    return penalty(real_logits, fake_logits)


def path_length(images, latents, generator):
    return penalties.PathLength(2.0, decay=0.99)(images, latents, generator=generator)


def names(n):
    """All names that a call in the tables may use."""
    public = {name: getattr(fused_losses, name) for name in fused_losses.__all__}
    public |= {name: getattr(penalties, name) for name in penalties.__all__}
    return public | {name: getattr(pygan, name) for name in pygan.__all__} | vars(n)


def leaves(n):
    """All leaves that require grad."""

    def found(value):
        if isinstance(value, (list, tuple)):
            return [x for each in value for x in found(each)]
        if isinstance(value, nn.Module):
            return list(value.parameters())
        return (
            [value]
            if isinstance(value, torch.Tensor) and value.is_leaf and value.requires_grad
            else []
        )

    return list({id(x): x for value in vars(n).values() for x in found(value)}.values())


# --- formulas ---------------------------------------------------------------------------------------

s, relu = F.softplus, F.relu


def bce(x, label):
    return F.binary_cross_entropy_with_logits(x, torch.full_like(x, label))


def squares(x, label):
    return (x - label).square().mean()


def over(scales, function):
    return [function(x) for x in scales]


def mean_over(scales, function):
    return sum(over(scales, function)) / len(scales)


def slopes(samples, logits):
    """Gradients with respect to the samples, (N, elements)."""
    return torch.autograd.grad(logits.sum(), samples, create_graph=True)[0].flatten(1)


def squared_slopes(n, side):
    samples = getattr(n, side)
    return slopes(samples, n.D(samples)).square().sum(1)


def differences(n):
    """Differences of the logits after a small step with standard deviation sigma."""
    return n.D(n.x + n.sigma * n.z) - n.D(n.x)


def noisy(n, samples):
    return n.scales[:, None] * samples + n.sigmas[:, None] * n.z


def distances(maps_f, maps_r, relative=False):
    """Distances for each discriminator and map."""
    return [
        [
            (f - r.detach()).abs().mean() / (r.detach().abs().mean() if relative else 1.0)
            for f, r in zip(of_f, of_r, strict=True)
        ]
        for of_f, of_r in zip(maps_f, maps_r, strict=True)
    ]


def last(maps):
    return [each[-1] for each in maps]


def others(maps):
    return [each[:-1] for each in maps]


def total(values):
    return sum(sum(each) for each in values)


def balanced(n):
    ratio = [
        torch.autograd.grad(loss, n.last_layer, retain_graph=True)[0].norm()
        for loss in (n.nll, n.g_loss)
    ]
    weight = (ratio[0] / (ratio[1] + 1e-4)).clamp(0, 1e4).detach()
    return n.nll + weight * n.g_loss


def excess(n, real_means, fake_means):
    """LeCam's squares, for logits or their means."""
    averages = [0.9 * a + 0.1 * x.detach().mean() for a, x in zip(FIRST_MEANS, (n.r, n.f))]
    above = relu(real_means - averages[1]).square().mean()
    return 0.3 * (above + relu(averages[0] - fake_means).square().mean())


def path_lengths(n):
    images = n.G(n.latents)
    generator = torch.Generator().manual_seed(1)
    y = torch.randn(images.shape, generator=generator, dtype=images.dtype)
    projected = (images * y / math.sqrt(images[0, 0].numel())).sum()
    lengths = torch.autograd.grad(projected, n.latents, create_graph=True)[0].norm(dim=1)
    return 2 * (lengths - 0.01 * lengths.detach().mean()).square().mean()


def hinge(r, f):
    return relu(1 - r).mean() + relu(1 + f).mean()


def summed(r, f, function):
    return sum(function(a, b) for a, b in zip(r, f, strict=True))


def with_parts(real, fake, factor):
    """The loss, and the unweighted values of the scales."""
    parts = [torch.stack(values).detach() for values in (real, fake) if values]
    return factor * (sum(real) + sum(fake)), *parts


DCGAN, STYLEGAN = "PyTorch's DCGAN example", "StyleGAN3"
THREE, HIFIGAN, VOCOS = "StudioGAN, mimicry, torchgan", "HiFi-GAN, BigVGAN, VITS", "Vocos"
ENCODEC, STABLE, VQGAN = "EnCodec, AudioCraft", "stable-audio-tools", "VQGANs"
MAGVIT = "magvit2-pytorch, gigagan-pytorch"

FORMULAS = {
    # Image GANs
    f"{DCGAN}, D on real": lambda n: bce(n.r, 1),
    f"{DCGAN}, D on generated": lambda n: bce(n.f, 0),
    f"{DCGAN}, G": lambda n: bce(n.f, 1),
    f"{STYLEGAN}, D on real": lambda n: s(-n.r).mean(),
    f"{STYLEGAN}, D on generated": lambda n: s(n.f).mean(),
    f"{STYLEGAN}, G": lambda n: s(-n.f).mean(),
    f"{STYLEGAN}, R1": lambda n: n.gamma / 2 * squared_slopes(n, "x").mean(),
    f"{STYLEGAN}, R1 of each sample": lambda n: n.gamma / 2 * squared_slopes(n, "x"),
    f"{STYLEGAN}, path length of G": path_lengths,
    "R3GAN, D": lambda n: (
        s(-(n.D(n.x) - n.D(n.y))).mean()
        + n.gamma / 2 * (squared_slopes(n, "x").mean() + squared_slopes(n, "y").mean())
    ),
    "R3GAN, G": lambda n: s(-(n.f - n.r)).mean(),
    f"{THREE}, D, hinge": lambda n: hinge(n.r, n.f),
    f"{THREE}, G, hinge": lambda n: -n.f.mean(),
    "StudioGAN, torchgan, D, least squares": lambda n: 0.5 * (squares(n.r, 1) + squares(n.f, 0)),
    f"{THREE}, D, Wasserstein": lambda n: n.f.mean() - n.r.mean(),
    f"{THREE}, G, Wasserstein": lambda n: -n.f.mean(),
    "torchgan, D, least squares with labels a, b": lambda n: (
        0.5 * (squares(n.r, n.b) + squares(n.f, n.a))
    ),
    "torchgan, G, least squares with label c": lambda n: 0.5 * squares(n.f, n.c),
    "mimicry, G, minimax": lambda n: -s(n.f).mean(),
    "tf-gan, D, label smoothing ε": lambda n: bce(n.r, 1 - n.eps / 2) + bce(n.f, 0),
    "tf-gan, D, hinge with margins a and b": lambda n: (
        relu(n.a - n.r).mean() + relu(n.b + n.f).mean()
    ),
    "tf-gan, gradient penalty with target t": lambda n: (
        n.weight * (slopes(n.x, n.D(n.x)).norm(dim=1) / n.t - 1).square().mean()
    ),
    "tf-gan, gradient penalty, one-sided": lambda n: (
        n.weight * relu(slopes(n.x, n.D(n.x)).norm(dim=1) / n.t - 1).square().mean()
    ),
    "lecam-gan, StudioGAN, LeCam": lambda n: excess(n, n.r, n.f),
    # Vocoders and codecs
    f"{HIFIGAN}, D": lambda n: with_parts(
        over(n.r, lambda r: squares(r, 1) / 2), over(n.f, lambda f: squares(f, 0) / 2), 2
    ),
    f"{HIFIGAN}, G": lambda n: with_parts([], over(n.f, lambda f: squares(f, 1) / 2), 2),
    f"{HIFIGAN}, features": lambda n: 2 * total(distances(n.maps_f, n.maps_r)),
    f"{VOCOS}, D, for each of its two kinds of D": lambda n: with_parts(
        over(n.r, lambda r: relu(1 - r).mean()),
        over(n.f, lambda f: relu(1 + f).mean()),
        1 / len(n.r),
    ),
    f"{VOCOS}, G, the same": lambda n: with_parts(
        [], over(n.f, lambda f: relu(1 - f).mean()), 1 / len(n.f)
    ),
    f"{VOCOS}, features, the same": lambda n: total(distances(n.maps_f, n.maps_r)) / len(n.maps_f),
    "DAC, D": lambda n: summed(
        last(n.maps_r), last(n.maps_f), lambda r, f: squares(f, 0) + squares(r, 1)
    ),
    "DAC, G": lambda n: sum(over(last(n.maps_f), lambda f: squares(f, 1))),
    "DAC, features": lambda n: 2 * total(distances(others(n.maps_f), others(n.maps_r))),
    f"{ENCODEC}, D on real, hinge": lambda n: mean_over(n.r, lambda r: relu(1 - r).mean()),
    f"{ENCODEC}, D on generated, hinge": lambda n: mean_over(n.f, lambda f: relu(1 + f).mean()),
    f"{ENCODEC}, G, hinge": lambda n: mean_over(n.f, lambda f: -f.mean()),
    f"{ENCODEC}, G, hinge2": lambda n: mean_over(n.f, lambda f: relu(1 - f).mean()),
    f"{ENCODEC}, D on real, mse": lambda n: mean_over(n.r, lambda r: squares(r, 1)),
    "AudioCraft, features": lambda n: mean_over(
        distances(n.maps_f, n.maps_r), lambda values: sum(values) / len(values)
    ),
    "EnCodec, features, relative": lambda n: torch.stack(
        [x for values in distances(n.maps_f, n.maps_r, relative=True) for x in values]
    ).mean(),
    f"{STABLE}, D, hinge": lambda n: summed(n.r, n.f, hinge) / len(n.r),
    f"{STABLE}, ARC, D, hinge": lambda n: summed(
        n.r, n.f, lambda r, f: relu(1 - r).mean() + relu(f).mean()
    ),
    f"{STABLE}, D, relativistic": lambda n: (
        summed(n.r, n.f, lambda r, f: s(-(r - f)).mean()) / len(n.r)
    ),
    f"{STABLE}, G, relativistic": lambda n: (
        summed(n.r, n.f, lambda r, f: s(-(f - r)).mean()) / len(n.r)
    ),
    # Tokenizers
    f"{VQGAN}, D, hinge, from step n": lambda n: 0.5 * hinge(n.r, n.f) * float(n.step >= n.n),
    f"{VQGAN}, D, vanilla": lambda n: 0.5 * (s(-n.r).mean() + s(n.f).mean()),
    f"{VQGAN}, G": lambda n: -n.f.mean(),
    f"{VQGAN}, G with its adaptive weight": balanced,
    "Open-MAGVIT2, LeCam": lambda n: excess(n, n.r, n.f),
    "TiTok, LeCam of the means": lambda n: excess(n, n.r.mean(), n.f.mean()),
    f"{MAGVIT}, D": lambda n: (
        hinge(n.scales_r[0], n.scales_f[0]) + 0.1 * summed(n.scales_r[1:], n.scales_f[1:], hinge)
    ),
    f"{MAGVIT}, G": lambda n: (
        -n.scales_f[0].mean() - 0.1 * sum(over(n.scales_f[1:], torch.mean))
    ),
    f"{MAGVIT}, R1 and R2": lambda n: (
        n.weight * (squared_slopes(n, "x").mean() + squared_slopes(n, "y").mean())
    ),
    # Super-resolution and translation: D on real, D on generated, G
    "BasicSR, Real-ESRGAN, vanilla": lambda n: (bce(n.r, 1), bce(n.f, 0), n.w * bce(n.f, 1)),
    "BasicSR, vanilla with label values a, b": lambda n: (
        bce(n.r, n.a),
        bce(n.f, n.b),
        n.w * bce(n.f, n.a),
    ),
    "BasicSR, lsgan": lambda n: (squares(n.r, 1), squares(n.f, 0), n.w * squares(n.f, 1)),
    "BasicSR, wgan": lambda n: (-n.r.mean(), n.f.mean(), -n.w * n.f.mean()),
    "BasicSR, wgan_softplus": lambda n: (
        s(-n.r).mean(),
        s(n.f).mean(),
        n.w * s(-n.f).mean(),
    ),
    "BasicSR, hinge": lambda n: (
        relu(1 - n.r).mean(),
        relu(1 + n.f).mean(),
        -n.w * n.f.mean(),
    ),
    "CycleGAN, pix2pix, lsgan": lambda n: (
        squares(n.r, 1) / 2,
        squares(n.f, 0) / 2,
        squares(n.f, 1),
    ),
    "pix2pix, vanilla": lambda n: (bce(n.r, 1) / 2, bce(n.f, 0) / 2, bce(n.f, 1)),
    "ESRGAN, D": lambda n: (
        0.5 * (bce(n.r - n.f.mean().detach(), 1) + bce(n.f - n.r.mean().detach(), 0))
    ),
    "ESRGAN, G": lambda n: (
        0.5 * (bce(n.r.detach() - n.f.mean(), 0) + bce(n.f - n.r.detach().mean(), 1))
    ),
    "pix2pixHD, D on real, `output` being its nested lists": lambda n: sum(
        over(last(n.output), lambda r: squares(r, 1))
    ),
    "pix2pixHD, D on generated": lambda n: sum(over(last(n.output), lambda f: squares(f, 0))),
    "pix2pixHD, G": lambda n: sum(over(last(n.output), lambda f: squares(f, 1))),
    "pix2pixHD, features": lambda n: (
        10 * 4 / (n.n_layers + 1) / n.num_D * total(distances(others(n.maps_f), others(n.maps_r)))
    ),
    "CycleGAN, gradient penalty of constant c": lambda n: (
        n.weight * (slopes(n.x, n.D(n.x)).norm(dim=1) - n.c).square().mean()
    ),
    # Diffusion distillation
    "DMD2, Self-Forcing, D": lambda n: s(n.f).mean() + s(-n.r).mean(),
    "DMD2, Self-Forcing, G": lambda n: n.w * s(-n.f).mean(),
    "Self-Forcing, D, relativistic": lambda n: s(-(n.r - n.f)).mean(),
    "Self-Forcing, approximate R1": lambda n: (
        n.weight * (differences(n) / n.sigma).square().mean()
    ),
    f"{STABLE}, ARC, approximate R1": lambda n: (
        n.weight * differences(n).square().sum(1).mean()
    ),
    "DMD2, Self-Forcing, noise": lambda n: noisy(n, n.x),
    "DMD2, Self-Forcing, the same noise for real and generated": lambda n: (
        noisy(n, n.x),
        noisy(n, n.y),
    ),
    # Labels and weights per sample
    "soft or noisy labels t, logistic": lambda n: F.binary_cross_entropy_with_logits(
        n.r, n.t.expand_as(n.r)
    ),
    "soft or noisy labels t, LSGAN": lambda n: squares(n.r, n.t),
    "latent-diffusion, D with a weight per sample": lambda n: (
        0.5
        * sum(
            (n.w * relu(1 + sign * x).mean((1, 2, 3))).sum() / n.w.sum()
            for sign, x in ((-1, n.r), (1, n.f))
        )
    ),
    "tf-gan, weights per sample": lambda n: (n.w * s(-n.f[:, 0, 0, 0])).sum() / 3,
}  # fmt: skip
