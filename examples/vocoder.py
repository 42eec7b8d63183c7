"""A tiny vocoder in the style of HiFi-GAN, on synthetic tones.

It has the adversarial losses of eight discriminators, feature matching over all their maps, and a mel-spectrogram loss,
and takes seconds on a CPU.

    python examples/vocoder.py          # with pygan's losses
    python examples/vocoder.py --plain  # with the loops that they replace: the same numbers

At the end it times both on the networks' own logits and maps.
"""

import argparse
import itertools
import math
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.benchmark import Timer

from pygan import fused_losses

RATE, SEGMENT, HOP, MELS, BATCH = 8000, 4096, 64, 20, 4
PERIODS = (2, 3, 5, 7, 11)
WIDTHS = (1, 8, 16, 32)


# --- the losses, before and after -----------------------------------------------------------------


def plain_discriminator_loss(r, f):
    loss, real_values, fake_values = 0, [], []
    for real, fake in zip(r, f, strict=True):
        real_values.append(torch.mean((1 - real) ** 2))
        fake_values.append(torch.mean(fake**2))
        loss = loss + real_values[-1] + fake_values[-1]
    return loss, torch.stack([*real_values, *fake_values]).detach()


def plain_generator_loss(f):
    values = [torch.mean((1 - fake) ** 2) for fake in f]
    return sum(values), torch.stack(values).detach()


def plain_feature_loss(maps_f, maps_r):
    loss = 0
    for of_fake, of_real in zip(maps_f, maps_r, strict=True):
        for fake, real in zip(of_fake, of_real, strict=True):
            loss = loss + F.l1_loss(fake, real.detach())
    return 2 * loss


def fused_discriminator_loss(r, f):
    loss, parts = fused_losses.discriminator_loss(
        r, f, loss="least_squares", weights=2, return_parts=True
    )
    return loss, 2 * torch.cat([parts.real, parts.fake])


def fused_generator_loss(f):
    loss, parts = fused_losses.generator_loss(f, loss="least_squares", weights=2, return_parts=True)
    return loss, 2 * parts.fake


def fused_feature_loss(maps_f, maps_r):
    return fused_losses.feature_matching(maps_f, maps_r, weights=2)


PLAIN = SimpleNamespace(
    discriminator=plain_discriminator_loss,
    generator=plain_generator_loss,
    features=plain_feature_loss,
)
FUSED = SimpleNamespace(
    discriminator=fused_discriminator_loss,
    generator=fused_generator_loss,
    features=fused_feature_loss,
)


# --- data and networks ----------------------------------------------------------------------------


def tones(count):
    """(count, 1, SEGMENT): decaying harmonics of a random pitch, and a little noise."""
    time = torch.arange(SEGMENT) / RATE
    pitch, decay = 80 + 220 * torch.rand(count, 1, 1), 1 + 5 * torch.rand(count, 1, 1)
    order = torch.arange(1, 6).view(1, 5, 1)
    phase = 2 * math.pi * (pitch * order * time + torch.rand(count, 5, 1))
    wave = (phase.sin() / order).sum(1, keepdim=True) * torch.exp(-decay * time)
    return 0.3 * wave + 0.005 * torch.randn_like(wave)


def mel_filters(bins):
    """(MELS, bins): triangular filters, equally spaced on the mel scale."""
    top = 2595 * math.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, MELS + 2) / 2595) - 1)
    frequency = torch.linspace(0, RATE / 2, bins)
    rise = (frequency - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - frequency) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rise, fall).relu()


def mel_spectrogram(wave):
    """Logarithmic mel spectrogram (N, MELS, frames)."""
    window = torch.hann_window(4 * HOP)
    spectrum = torch.stft(wave.squeeze(1), 4 * HOP, HOP, window=window, return_complex=True)
    power = spectrum.real.square() + spectrum.imag.square()
    return (mel_filters(power.shape[1]) @ (power + 1e-9).sqrt()).clamp(min=1e-3).log()[..., :-1]


def generator():
    """A generator from mel spectrograms to waves 8 x 8 times as long."""
    layers = [nn.Conv1d(MELS, 64, 7, padding=3)]
    for inputs, outputs in ((64, 32), (32, 16)):
        layers += [nn.LeakyReLU(0.1), nn.ConvTranspose1d(inputs, outputs, 16, 8, padding=4)]
        layers += [nn.LeakyReLU(0.1), nn.Conv1d(outputs, outputs, 7, padding=3)]
    return nn.Sequential(*layers, nn.LeakyReLU(0.1), nn.Conv1d(16, 1, 7, padding=3), nn.Tanh())


class Discriminator(nn.Module):
    """Returns the feature maps, with the logits last. `period` folds the wave to (time, period); `pool` downsamples
    it."""

    def __init__(self, period=1, pool=1):
        super().__init__()
        self.period, self.pool = period, pool
        sizes = itertools.pairwise(WIDTHS)
        hidden = [nn.Conv2d(a, b, (5, 1), (3, 1), padding=(2, 0)) for a, b in sizes]
        self.layers = nn.ModuleList([*hidden, nn.Conv2d(WIDTHS[-1], 1, (3, 1), padding=(1, 0))])

    def forward(self, wave):
        x = F.avg_pool1d(wave, self.pool) if self.pool > 1 else wave
        x = F.pad(x, (0, -x.shape[-1] % self.period), mode="reflect")
        x = x.view(len(x), 1, -1, self.period)
        maps = []
        for i, layer in enumerate(self.layers):
            x = layer(F.leaky_relu(x, 0.1) if i else x)
            maps.append(x)
        return maps


def discriminators():
    pools = [Discriminator(pool=pool) for pool in (1, 2, 4)]
    return nn.ModuleList([*(Discriminator(period) for period in PERIODS), *pools])


def outputs(D, wave):
    """The discriminators' lists of maps, and the logits among them."""
    maps = [network(wave) for network in D]
    return maps, [each[-1] for each in maps]


# --- training -------------------------------------------------------------------------------------


def train(losses, steps, seed=0):
    """Train; returns a row per step with the losses and the value of each scale and side, and the last maps of both
    kinds."""
    torch.manual_seed(seed)
    G, D = generator(), discriminators()
    g_optimizer, d_optimizer = (
        torch.optim.AdamW(net.parameters(), lr=1e-3, betas=(0.8, 0.99)) for net in (G, D)
    )
    rows = []
    for _ in range(steps):
        wave = tones(BATCH)
        mel = mel_spectrogram(wave)
        fake = G(mel)

        d_loss, d_values = losses.discriminator(outputs(D, wave)[1], outputs(D, fake.detach())[1])
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        with torch.no_grad():
            maps_r, _ = outputs(D, wave)
        maps_f, f = outputs(D, fake)
        g_loss, g_values = losses.generator(f)
        feature_loss = losses.features(maps_f, maps_r)
        mel_loss = 45 * F.l1_loss(mel_spectrogram(fake), mel)
        g_optimizer.zero_grad()
        (g_loss + feature_loss + mel_loss).backward()
        g_optimizer.step()
        totals = torch.stack([d_loss, g_loss, feature_loss, mel_loss]).detach()
        rows.append(torch.cat([totals, d_values, g_values]))
    return torch.stack(rows), maps_f, maps_r


def loss_part(losses, maps_f, maps_r):
    """Forward and backward passes of one iteration's losses, up to the networks' outputs."""
    f, r = ([each[-1] for each in maps] for maps in (maps_f, maps_r))
    losses.discriminator(r, f)[0].backward()
    (losses.generator(f)[0] + losses.features(maps_f, maps_r)).backward()


def leaves(maps):
    return [[x.detach().requires_grad_() for x in each] for each in maps]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plain", action="store_true", help="the losses as loops of plain PyTorch")
    parser.add_argument("--steps", type=int, default=60, help="training iterations (default: 60)")
    args = parser.parse_args()
    if args.steps < 1:
        parser.error(f"--steps must be at least 1, got {args.steps}")

    rows, maps_f, maps_r = train(PLAIN if args.plain else FUSED, args.steps)
    for step in sorted({0, args.steps // 2, args.steps - 1}):
        d, g, features, mel = rows[step, :4].tolist()
        print(f"step {step + 1}: D {d:.4f}  G {g:.4f}  features {features:.4f}  mel {mel:.3f}")

    scope = {"maps_f": leaves(maps_f), "maps_r": leaves(maps_r), "loss_part": loss_part}
    plain, fused = (
        Timer("loss_part(losses, maps_f, maps_r)", globals=scope | {"losses": losses})
        .blocked_autorange(min_run_time=0.5)
        .median
        for losses in (PLAIN, FUSED)
    )
    print(
        f"losses of one iteration, forward and backward: plain {1e3 * plain:.2f} ms, "
        f"pygan {1e3 * fused:.2f} ms, {plain / fused:.1f} x"
    )


if __name__ == "__main__":
    main()
