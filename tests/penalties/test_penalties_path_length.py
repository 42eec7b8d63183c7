"""The path length penalty of StyleGAN2 against its formula in plain PyTorch."""

import pytest
import torch
from helpers import DEVICES, raises
from helpers.sync import NoSync
from helpers.trainer import assert_same
from torch import nn

import pygan
from pygan.penalties import PathLength


def generator(dtype=torch.float64):
    torch.manual_seed(0)
    layers = [nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 48), nn.Unflatten(1, (3, 4, 4))]
    return nn.Sequential(*layers).to(dtype)


class Layered(nn.Module):
    """A generator of w (N, layers, width)."""

    def __init__(self):
        super().__init__()
        self.net = generator()

    def forward(self, w):
        return (self.net(w.flatten(0, 1)).view(*w.shape[:2], 3, 4, 4) ** 2).sum(1)


def lengths(images, latents, seed):
    y = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed), dtype=images.dtype)
    (g,) = torch.autograd.grad((images * y).sum() / 4.0, latents, create_graph=True)  # 4 x 4 pixels
    if g.dim() == 3:
        return g.square().sum(2).mean(1).sqrt()
    return g.flatten(1).square().sum(1).sqrt()


@pytest.mark.parametrize("shape", [(5, 4), (5, 3, 4)])
def test_equals_the_formula_written_out(shape):
    G = generator() if len(shape) == 2 else Layered()
    path, average = PathLength(2.0, 0.9), 0.0
    for step in range(4):
        z = torch.randn(shape, dtype=torch.float64).requires_grad_()
        images = G(z)
        got = path(images, z, generator=torch.Generator().manual_seed(step))
        found = lengths(images, z, step)
        average = 0.9 * average + 0.1 * found.mean().item()
        want = 2.0 * (found - average).square().mean()
        torch.testing.assert_close(got, want)
        parameters = list(G.parameters())[:-1]
        torch.testing.assert_close(
            *(torch.autograd.grad(x, parameters, retain_graph=True) for x in (got, want))
        )
        torch.testing.assert_close(path.averages, torch.tensor([average], dtype=torch.float64))


def test_convolutional_latents_count_as_one_vector():
    G = nn.ConvTranspose2d(6, 3, 4).double()
    z = torch.randn(5, 6, 1, 1, dtype=torch.float64).requires_grad_()
    images = G(z)
    got = PathLength(1.0, 0.0)(images, z, generator=torch.Generator().manual_seed(1))
    found = lengths(images, z, 1)
    torch.testing.assert_close(got, (found - found.mean()).square().mean())


def test_the_average_for_an_orthogonal_map():
    """E ||J^T y||^2 is the squared Frobenius norm divided by the pixels: here, with one pixel, the width."""
    z = torch.randn(20_000, 8).requires_grad_()
    path = PathLength(decay=0.0)
    with torch.no_grad():
        rotation = torch.linalg.qr(torch.randn(8, 8)).Q
    path(z @ rotation, z)
    # The expected norm of 8 normals: sqrt(2) gamma(4.5) / gamma(4).
    assert path.averages.item() == pytest.approx(2.7416, rel=0.01)


@pytest.mark.parametrize("device", DEVICES)
def test_fp16_images(device):
    z = torch.randn(4, 16, device=device, dtype=torch.float16).requires_grad_()
    for scale in (2.0**-10, 2.0**7):  # the sum of their squares exceeds fp16
        path = PathLength(1.0, 0.0)
        got = path(z * scale, z)
        assert got.dtype == torch.float32
        assert 0 < got < float("inf")
        assert path.averages.item() == pytest.approx(scale * 4, rel=0.3)


def test_a_generator_that_ignores_its_latents_has_finite_gradients():
    weight = torch.zeros(4, 3, requires_grad=True)
    z = torch.randn(5, 4).requires_grad_()
    PathLength()(z @ weight, z).backward()
    assert weight.grad.isfinite().all()


def test_eval_and_state():
    G, path, other = generator(), PathLength(), PathLength()
    z = torch.randn(5, 4, dtype=torch.float64).requires_grad_()
    path(G(z), z)
    other.load_state_dict(path.state_dict())
    assert_same(other.averages, path.averages)
    path.eval()
    path(G(z), z)
    assert_same(other.averages, path.averages)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_no_synchronization(device):
    G, path = generator().to(device), PathLength().to(device)
    z = torch.randn(5, 4, dtype=torch.float64, device=device).requires_grad_()
    with NoSync():
        path(G(z), z).backward()


def test_the_trainer_refuses_it():
    G, D = nn.Linear(4, 6), nn.Linear(6, 1)
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
    with raises(
        TypeError,
        "GANTrainer: penalties must be a pygan.penalties penalty of the discriminator or a sequence of them, got "
        "PathLength(2.0, decay=0.99)",
    ):
        pygan.GANTrainer(G, D, *optimizers, latent=4, penalties=PathLength())


X, Z = torch.zeros(3, 1, 2, 2), torch.zeros(3, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: PathLength(0.0), ValueError, "weight must be positive and finite, got 0.0"),
        (lambda: PathLength(decay=1.0), ValueError, "decay must be from 0 to below 1, got 1.0"),
        (lambda: PathLength()(X.byte(), Z), TypeError,
         "images must be float32, float64, float16 or bfloat16, got torch.uint8"),
        (lambda: PathLength()(X, [Z]), TypeError, "latents must be a floating-point tensor, got a list"),
        (lambda: PathLength()(X, Z[:2]), ValueError, "latents must have as many samples as images, 3, got 2"),
        (lambda: PathLength()(X, Z), ValueError, "latents must require a gradient (latents.requires_grad_())"),
        (lambda: PathLength()(X, Z.clone().requires_grad_()), RuntimeError, "images must depend on latents"),
        (lambda: PathLength()(X.clone().requires_grad_(), Z.clone().requires_grad_()), RuntimeError,
         "images must depend on latents, got images that do not; compute them from the same tensor"),
    ],
)  # fmt: skip
def test_invalid_arguments_are_refused(call, error, message):
    with raises(error, f"PathLength: {message}"):
        call()
