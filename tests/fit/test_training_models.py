"""The networks of `pygan train`: shapes, value ranges, and gradients for every layer."""

import pytest
import torch
from torch import nn

from pygan.training.models import ARCHITECTURES, dcgan, fitting_side, mlp

SHAPES = [
    ("mlp", (2,), {}),
    ("mlp", (1, 8, 8), dict(depth=1, batch_norm=True)),
    ("mlp", (3, 8, 8), dict(depth=4, width=16)),
    *[("dcgan", (c, s, s), dict(width=4)) for c in (1, 3) for s in (8, 16, 32, 64)],
    ("dcgan", (3, 16, 16), dict(width=4, batch_norm=False)),
    *[("dcgan", (3, h, w), dict(width=2)) for h, w in ((28, 28), (24, 48), (9, 31), (70, 33))],
    *[("dcgan", (3, s, s), dict(width=1, most=4)) for s in (128, 256)],
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
    G, D = dcgan((1, 28, 28), latent=3, width=8)
    layers = [m for network in (G, D) for m in network if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers] == [(3, 32 * 16), (32 * 16, 1)]
    biased = [m.bias is not None for m in G if isinstance(m, (nn.Linear, nn.ConvTranspose2d))]
    assert biased == [False, False, False, True]  # BatchNorm subtracts any other
    _, D = dcgan((3, 256, 256), latent=3, width=8, most=32)
    assert [m.out_channels for m in D if isinstance(m, nn.Conv2d)] == [8, 16, 32, 32, 32, 32]


@pytest.mark.parametrize(
    ("name", "shape"),
    [("mlp", (2,)), ("dcgan", (3, 16, 24))],
)
def test_networks_with_labels(name, shape):
    torch.manual_seed(0)
    G, D = ARCHITECTURES[name](shape, latent=5, width=4, classes=3)
    z, labels = torch.randn(1, 5).expand(3, 5), torch.arange(3)
    G.eval()
    samples = G(z, labels)
    assert samples.shape == (3, *shape) and not torch.equal(samples[0], samples[1])
    x = torch.randn(1, *shape).expand(3, *shape)
    logits = D(x, labels)
    assert logits.shape == (3, 1) and logits.unique().numel() == 3
    (D(G(z, labels), labels).sum()).backward()
    assert all(p.grad is not None for network in (G, D) for p in network.parameters())


def test_largest_supported_side():
    sides = [5, 8, 9, 15, 27, 28, 31, 47, 50, 64, 100, 255, 256, 4000]
    fitting = [8, 8, 8, 12, 24, 28, 28, 44, 48, 64, 100, 252, 256, 256]
    assert [fitting_side(side) for side in sides] == fitting
    for side in fitting:
        dcgan((1, side, side), latent=1, width=1, most=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mlp((2,), latent=0), "mlp: latent must be an int of at least 1, got 0"),
        (
            lambda: mlp((2,), latent=2, depth=1.5),
            "mlp: depth must be an int of at least 1, got 1.5",
        ),
        (lambda: mlp((2, 0), latent=2), "mlp: each size of shape must be an int of at least 1, g"),
        (
            lambda: dcgan((3, 7, 14), latent=2),
            r"shorter side from 8 to 256 pixels, got \(3, 7, 14\)",
        ),
        (lambda: dcgan((3, 512, 512), latent=2), r"from 8 to 256 pixels, got \(3, 512, 512\)"),
        (lambda: dcgan((2,), latent=2), r"dcgan: shape must be \(C, H, W\).* got \(2,\)"),
        (lambda: mlp((2,), latent=2, classes=-1), "mlp: classes must be an int of at least 0"),
        (
            lambda: dcgan((3, 8, 8), latent=2, width=0),
            "dcgan: width must be an int of at least 1, got 0",
        ),
    ],
)
def test_unsupported_sizes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
