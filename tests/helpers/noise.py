"""Helpers for the tests of instance_noise: the stream itself, inputs of every dtype, and layouts."""

import torch

from helpers import FLOATS
from pygan import NoiseStream, instance_noise

INPUTS = [*FLOATS, torch.uint8]
TOP = 2**64 - 1
noise_at = torch.ops.pygan.instance_noise_at
noise_dot = torch.ops.pygan.noise_dot


def z_of(n, seed, step=0, offset=0, device="cpu"):
    """Normals of the stream, fp32."""
    stream = NoiseStream(seed, step=step, offset=offset, device=device)
    return instance_noise(torch.zeros(n, device=device), 1.0, stream=stream)


def inputs(n, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.uint8:
        return torch.randint(0, 256, (n,), generator=generator, dtype=torch.uint8)
    x = torch.randn(n, generator=generator, dtype=torch.float64)
    x[: n // 4] *= 1e-3
    x[: n // 8] *= 1e-4  # subnormal in fp16
    return x.to(dtype)


SHAPE = (4, 6, 5, 7)
LAYOUTS = {
    "contiguous": lambda x: x.clone(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
    "batch last": lambda x: x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
    "sliced": lambda x: torch.stack([x, torch.full_like(x, 99)], -1)[..., 0],
    "sliced rows": lambda x: torch.cat([x, torch.full_like(x, 99)], 1)[:, : x.shape[1]],
    "expanded": lambda x: x[:, :1].expand(x.shape),
    "misaligned": lambda x: torch.cat([x.flatten()[:1], x.flatten()])[1:].view(x.shape),
}
