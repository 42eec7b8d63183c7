"""The penalties in low precision and under autocast against fp32, and errors for missing second derivatives."""

import copy

import pytest
import torch
from helpers import raises
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

import pygan
from pygan.penalties import R1, R2, GradientPenalty, LeCam

SIZE = 1024


def penalty_of(D, given, shape, dtype=torch.float32, **options):
    """The value of a penalty in a discriminator step with a learning rate of 0."""
    torch.manual_seed(1)
    given = copy.deepcopy(given)  # LeCam has a state
    G = nn.Linear(4, shape[1]).to(dtype)
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.0) for net in (G, D)]
    trainer = pygan.GANTrainer(G, D, *optimizers, latent=4, seed=0, penalties=given, **options)
    return float(trainer.step(torch.randn(shape, dtype=dtype)).penalty)


@pytest.mark.parametrize("exponent", [-13, 8])
@pytest.mark.parametrize(
    "penalty",
    [
        R1(2.0),
        R2(2.0),
        R1(2.0, sigma=1.0),
        R2(2.0, sigma=1.0),
        R1(2.0, sigma=1.0, of="logit"),
        GradientPenalty(1.0),
    ],
)
def test_squared_fp16_gradients_do_not_underflow_or_overflow(penalty, exponent):
    """Each square, or the sum of the 1024, exceeds fp16's range; the norm is 32 * 2^exponent."""
    D = nn.Linear(SIZE, 1).half()
    nn.init.constant_(D.weight, 2.0**exponent)
    nn.init.zeros_(D.bias)
    squared = SIZE * 4.0**exponent
    if isinstance(penalty, GradientPenalty):
        want, close = (squared**0.5 - 1.0) ** 2, 1e-6
    elif penalty.sigma is None:
        want, close = squared, 1e-6
    else:  # an estimate from 512 samples
        want, close = squared, 4 * (2 / 512) ** 0.5
    assert penalty_of(D, penalty, (512, SIZE), torch.float16) == pytest.approx(want, rel=close)


def two_layers():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(
    "penalty",
    [
        R1(1.0),
        R2(1.0),
        [R1(1.0), R2(1.0)],
        R1(1.0, sigma=0.1),
        GradientPenalty(),
        LeCam(1.0, 0.5, 0),
    ],
)
def test_autocast_is_close_to_fp32(penalty, dtype, scaled):
    """The generated samples have low precision then, the real ones do not."""
    want = penalty_of(two_layers(), penalty, (64, 6))
    options = {"scaler": torch.amp.GradScaler("cpu", init_scale=16.0)} if scaled else {}
    D = two_layers()
    with torch.autocast("cpu", dtype):
        got = penalty_of(D, penalty, (64, 6), **options)
    assert got == pytest.approx(want, rel=0.02)
    assert all(p.grad.isfinite().all() for p in D.parameters())


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.qkv, self.last = nn.Linear(6, 24), nn.Linear(8, 1)

    def forward(self, x):
        q, k, v = self.qkv(x.view(-1, 1, 1, 6).repeat(1, 2, 3, 1)).chunk(3, -1)
        return self.last(scaled_dot_product_attention(q, k, v).mean((1, 2)))


def test_attention_without_a_second_derivative_is_refused_with_a_remedy():
    for penalty in (R1(1.0), R2(1.0), GradientPenalty()):
        name = type(penalty).__name__
        message = f"GANTrainer: the discriminator must have second derivatives for {name}, got: "
        with raises(RuntimeError, message, "R1 and R2 with sigma= need none", "sdpa_kernel"):
            penalty_of(Attention(), penalty, (64, 6))
    with sdpa_kernel(SDPBackend.MATH):
        exact = penalty_of(Attention(), R1(1.0), (4096, 6))
    assert penalty_of(Attention(), R1(1.0, sigma=0.01), (4096, 6)) == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize("penalty", [R1(1.0), R2(1.0), GradientPenalty()])
def test_a_compiled_discriminator_is_refused_with_a_remedy(penalty):
    torch._dynamo.reset()  # after many compilations of a function, torch stops compiling it
    D = torch.compile(Attention().last, backend="aot_eager")
    name = type(penalty).__name__
    message = f"GANTrainer: the discriminator must have second derivatives for {name}, got: "
    with raises(RuntimeError, message, "R1 and R2 with sigma= need none", "without torch.compile"):
        penalty_of(D, penalty, (64, 8))
    assert penalty_of(D, R1(1.0, sigma=0.1), (64, 8)) > 0
