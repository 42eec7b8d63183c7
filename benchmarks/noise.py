"""Instance noise against eager PyTorch.

    python benchmarks/noise.py [--threads 2] [--device cpu|cuda] [--seconds 2] [--markdown]

Ratios above 1 are in pygan's favour; where it is slower, the table says so.
"""

import timing
import torch

import pygan


def main():
    args = timing.parser(__doc__).parse_args()
    timing.announce(args, "forward")
    table = timing.Table(args, "op", "N", "eager", "pygan", "ratio")
    for n in (1 << 16, 1 << 20, 1 << 24):
        x, out = torch.randn(n, device=args.device), torch.empty(n, device=args.device)
        stream = pygan.NoiseStream(0, device=args.device)
        eager = lambda x=x: x + 0.5 * torch.randn_like(x)  # noqa: E731
        for name, into in (("instance noise", None), ("instance noise, out=", out)):
            fused = lambda x=x, s=stream, o=into: pygan.instance_noise(x, 0.5, stream=s, out=o)  # noqa: E731
            a, b = timing.interleaved([eager, fused], args)
            table.row(name, n, a, b, f"{a / b:.1f} x")


if __name__ == "__main__":
    main()
