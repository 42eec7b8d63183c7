"""The networks of `pygan train`: shapes, ranges, and that every layer takes part."""

import pytest
import torch
from torch import nn

from pygan.training.models import ARCHITECTURES, dcgan, mlp

SHAPES = [
    ("mlp", (2,), {}),
    ("mlp", (1, 8, 8), dict(depth=1, batch_norm=True)),
    ("mlp", (3, 8, 8), dict(depth=4, width=16)),
    *[("dcgan", (c, s, s), dict(width=4)) for c in (1, 3) for s in (8, 16, 32, 64)],
    ("dcgan", (3, 16, 16), dict(width=4, batch_norm=False)),
]


@pytest.mark.parametrize(("name", "shape", "options"), SHAPES)
def test_shapes_and_gradients(name, shape, options):
    torch.manual_seed(0)
    G, D = ARCHITECTURES[name](shape, latent=5, **options)
    samples = G(torch.randn(6, 5))
    assert samples.shape == (6, *shape)
    if len(shape) > 1:
        assert samples.abs().max() <= 1
    logits = D(samples)
    assert logits.shape == (6, 1)
    logits.square().sum().backward()
    for network in (G, D):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    norms = (nn.BatchNorm1d, nn.BatchNorm2d)
    assert not any(isinstance(m, norms) for m in D.modules())
    wanted = options.get("batch_norm", name == "dcgan")
    assert any(isinstance(m, norms) for m in G.modules()) == wanted


def test_depth_and_width():
    G, D = mlp((2,), latent=3, width=7, depth=3)
    for network, inputs, outputs in ((G, 3, 2), (D, 2, 1)):
        layers = [m for m in network if isinstance(m, nn.Linear)]
        assert [(m.in_features, m.out_features) for m in layers] == [
            (inputs, 7),
            (7, 7),
            (7, 7),
            (7, outputs),
        ]
    G, D = dcgan((3, 64, 64), latent=3, width=8)
    assert [m.out_channels for m in D if isinstance(m, nn.Conv2d)] == [8, 16, 32, 64]
    assert [m.out_channels for m in G if isinstance(m, nn.ConvTranspose2d)] == [32, 16, 8, 3]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mlp((2,), latent=0), "mlp: latent must be an int of at least 1, got 0"),
        (
            lambda: mlp((2,), latent=2, depth=1.5),
            "mlp: depth must be an int of at least 1, got 1.5",
        ),
        (lambda: mlp((2, 0), latent=2), "mlp: each size of shape must be an int of at least 1, g"),
        (lambda: dcgan((3, 24, 24), latent=2), r"S = 8, 16, 32 or 64, got \(3, 24, 24\)"),
        (lambda: dcgan((2,), latent=2), r"dcgan: shape must be \(C, S, S\).* got \(2,\)"),
        (
            lambda: dcgan((3, 8, 8), latent=2, width=0),
            "dcgan: width must be an int of at least 1, got 0",
        ),
    ],
)
def test_bad_sizes(make, message):
    with pytest.raises(ValueError, match=message):
        make()
