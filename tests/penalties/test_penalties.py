"""The penalties in a GANTrainer, compared with hand-written loops in plain PyTorch and with theory."""

import copy

import pytest
import torch
from helpers import raises
from helpers.trainer import assert_same, everything, networks, setup
from torch import nn

import pygan
from pygan import fused_losses
from pygan.penalties import R1, R2, GradientPenalty
from pygan.schedules import Adaptive, Constant, Linear, Schedule


def total(logits):
    return logits.sum() if isinstance(logits, torch.Tensor) else sum(x.sum() for x in logits)


def squared_gradient(D, x):
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(total(D(x)), x, create_graph=True)
    return gradient.square().flatten(1).sum(1)


class TwoScales(nn.Module):
    """A discriminator that returns a list."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
        self.heads = nn.ModuleList([nn.Linear(8, 1), nn.Linear(8, 3)])

    def forward(self, x):
        return [head(self.body(x)) for head in self.heads]


CASES = {
    "R1": [R1(0.7)],
    "R2": R2(1.3),
    "R1 and R2": [R1(1.0), R2(0.5)],
    "lazy": [R1(1.0, every=2), R2(0.3, every=3)],
    "WGAN-GP": GradientPenalty(),
    "all": [GradientPenalty(2.0, every=2), R1(0.1), R2(0.1, sigma=0.02), R1(0.3, sigma=0.01)],
}


@pytest.mark.parametrize("lists", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_equals_a_hand_written_loop(case, lists):
    loss = "wasserstein" if case == "WGAN-GP" else "relativistic"
    noise = pygan.InstanceNoise(Constant(0.1), seed=5)
    G, _ = networks()
    D, D2 = (TwoScales() if lists else networks()[1] for _ in range(2))
    d_opt, d2_opt = (torch.optim.SGD(d.parameters(), lr=0.05) for d in (D, D2))
    g_opt = torch.optim.SGD(G.parameters(), lr=0.05)
    given = CASES[case]
    trainer = pygan.GANTrainer(
        G, D, g_opt, d_opt, latent=4, loss=loss, noise=noise, penalties=given, seed=1
    )
    stream, draws = pygan.NoiseStream(5), pygan.NoiseStream(2)

    def normals(shape):
        return pygan.instance_noise(torch.zeros(shape), 1.0, stream=draws)

    penalties = given if isinstance(given, list) else [given]
    for step in range(5):
        real = torch.randn(16, 6)
        with torch.no_grad():
            fake = G(normals((16, 4)))
        inputs = [pygan.instance_noise(x, 0.1, stream=stream) for x in (real, fake)]
        want = fused_losses.discriminator_loss(D2(inputs[0]), D2(inputs[1]), loss=loss)
        value = 0.0
        for p in penalties:
            if step % p.every:
                continue
            if isinstance(p, GradientPenalty):
                u = torch.special.ndtr(normals((16, 1)))
                between = u * inputs[0] + (1 - u) * inputs[1]
                part = p.weight * (squared_gradient(D2, between).sqrt() - 1).square().mean()
            else:
                x = inputs[0 if isinstance(p, R1) else 1]
                if p.sigma is None:
                    part = p.gamma / 2 * squared_gradient(D2, x).mean()
                else:
                    moved = x + p.sigma * normals((16, 6))
                    scores = [
                        torch.cat(out, 1).sum(1) if lists else out.sum(1)
                        for out in (D2(moved), D2(x))
                    ]
                    difference = (scores[0] - scores[1]) / p.sigma
                    part = p.gamma / 2 * difference.square().mean()
            value += p.every * part
        d2_opt.zero_grad()
        (want + value).backward()
        d2_opt.step()
        d_loss, _ = trainer.discriminator_step(real)
        torch.testing.assert_close(d_loss, want.detach())
        # The finite difference divides the difference of two logits by 0.01.
        torch.testing.assert_close(D.state_dict(), D2.state_dict(), rtol=1e-4, atol=2e-5)
    assert trainer.d_updates == 5


def test_penalty_statistics_are_separate_from_the_loss():
    D = nn.Linear(6, 1)
    with torch.no_grad():
        D.weight.copy_(torch.tensor([[1.0, 2.0, 0.0, 0.0, 0.0, 2.0]]))  # norm 3
    G = networks()[0]
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.0) for net in (G, D)]
    penalties = [R1(2.0, every=2), R2(4.0), GradientPenalty(0.25)]
    trainer = pygan.GANTrainer(G, D, *optimizers, latent=4, penalties=penalties)
    plain = pygan.GANTrainer(G, D, *optimizers, latent=4)
    plain.stream.load_state_dict(trainer.stream.state_dict())
    real = torch.randn(16, 6)
    for step in range(3):
        plain.stream.load_state_dict(trainer.stream.state_dict())
        stats, want = trainer.step(real), plain.step(real)
        assert stats.penalty == pytest.approx(9.0 + 18.0 + 0.25 * 4.0, rel=1e-5), step
        assert want.penalty == 0
        assert_same(stats.d_loss, want.d_loss)


@pytest.mark.parametrize("side", [R1, R2])
def test_the_finite_difference_estimates_the_gradient(side):
    """Its mean is the exact penalty if D is linear: E (g . z)^2 = |g|^2, with standard error sqrt(2 / N) |g|^2."""
    torch.manual_seed(0)
    D, G = nn.Linear(6, 2).double(), nn.Linear(4, 6).double()
    gradient = D.weight.detach().sum(0).square().sum().item()
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.0) for net in (G, D)]
    trainer = pygan.GANTrainer(G, D, *optimizers, latent=4, penalties=side(1.0, sigma=0.01), seed=1)
    n = 100_000
    stats = trainer.step(torch.randn(n, 6, dtype=torch.float64))
    assert float(stats.penalty) == pytest.approx(gradient / 2, rel=4 * (2 / n) ** 0.5)


def test_a_finite_difference_needs_no_double_backward():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            return grad * 2

    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 1)

        def forward(self, x):
            return self.last(Once.apply(self.first(x)))

    def train(penalty):
        D, G = Body(), networks()[0]
        optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
        trainer = pygan.GANTrainer(G, D, *optimizers, latent=4, penalties=penalty)
        return trainer.step(torch.randn(16, 6))

    assert train(R1(1.0, sigma=0.1)).penalty > 0
    with pytest.raises(RuntimeError, match="once_differentiable"):
        train(R1(1.0))


def test_the_gradient_is_taken_before_augmentation():
    D = nn.Linear(6, 1)
    G = networks()[0]
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.0) for net in (G, D)]
    trainer = pygan.GANTrainer(
        G, D, *optimizers, latent=4, penalties=R1(2.0), augment=lambda x: 3 * x
    )
    want = 9 * float(D.weight.detach().square().sum())
    assert float(trainer.step(torch.randn(8, 6)).penalty) == pytest.approx(want, rel=1e-5)


def test_penalties_do_not_reach_the_generator():
    trainer = setup(penalties=[R1(1.0), R2(1.0), GradientPenalty()])
    trainer.discriminator_step(torch.randn(8, 6))
    assert all(p.grad is None for p in trainer.generator.parameters())
    assert all(p.grad is not None for p in trainer.discriminator.parameters())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: R1(0.0), ValueError, "R1: gamma must be positive and finite, got 0.0"),
        (lambda: R2(-1.0), ValueError, "R2: gamma must be positive and finite, got -1.0"),
        (lambda: R1(float("nan")), ValueError, "R1: gamma must be positive and finite, got nan"),
        (lambda: R1(Adaptive(0, 1, 9)), TypeError, "R1: gamma must be a number or a schedule that"),
        (lambda: R1(10**400), ValueError, "R1: gamma must be finite, got a number too large"),
        (lambda: GradientPenalty(10**400), ValueError, "GradientPenalty: weight must be finite"),
        (lambda: R1(1.0, every=10**400), ValueError, r"R1: every must be below 2\*\*63"),
        (lambda: R1("1"), TypeError, "R1: gamma must be a number, got str"),
        (lambda: R1(1.0, sigma=0.0), ValueError, "R1: sigma must be positive and finite, got 0.0"),
        (lambda: R1(1.0, every=0), ValueError, "R1: every must be an int of at least 1, got 0"),
        (lambda: R2(1.0, every=1.5), ValueError, "R2: every must be .* got 1.5"),
        (lambda: GradientPenalty(True), TypeError, "GradientPenalty: weight must be a number"),
        (lambda: GradientPenalty(every=True), ValueError, "GradientPenalty: every must be an int"),
    ],
)
def test_invalid_arguments_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("sigma", [None, 0.1])
def test_gamma_can_follow_a_schedule(sigma):
    """Without calling its step(), and with the trainer's step count after a resume."""
    given = Linear(1.0, 0.25, steps=3)
    by_schedule = setup(penalties=R1(given, sigma=sigma), d_steps=2)
    for gamma in (1.0, 0.75, 0.5, 0.25, 0.25):
        fixed = setup(penalties=R1(gamma, sigma=sigma), d_steps=2)
        fixed.load_state_dict(copy.deepcopy(by_schedule.state_dict()))
        batches = list(torch.randn(2, 8, 6))
        assert_same(by_schedule.step(batches), fixed.step(batches))
        assert_same(by_schedule.discriminator.state_dict(), fixed.discriminator.state_dict())
    assert given.count == 0


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("penalty", [R1, R2])
def test_a_schedule_cannot_make_gamma_negative(penalty, wrong):
    """That would reward the gradient."""

    class OfOnesOwn(Schedule):
        def value(self, count):
            return wrong if count else 1.0

    trainer = setup(penalties=penalty(OfOnesOwn()))
    trainer.step(torch.randn(8, 6))
    before = everything(trainer)[0][1:]  # the generator's BatchNorm has seen samples
    with raises(ValueError, "OfOnesOwn: value(1) must be a finite non-negative number, got"):
        trainer.step(torch.randn(8, 6))
    assert_same(everything(trainer)[0][1:], before)


@pytest.mark.parametrize("shape", [(8, 1, 6), (8, 3, 5), (8, 6), (3, 6)])
def test_interpolation_needs_equal_shapes(shape):
    """Even if the two could be broadcast, in any dimension."""

    class Mean(nn.Module):
        def forward(self, x):
            return x.flatten(1).mean(1, keepdim=True)

    G = nn.Sequential(nn.Linear(4, 18), nn.Unflatten(1, (3, 6)))
    D = nn.Sequential(Mean(), nn.Linear(1, 1))
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
    trainer = pygan.GANTrainer(G, D, *optimizers, latent=4, penalties=GradientPenalty())
    generated = (shape[0], 3, 6)
    with raises(
        ValueError,
        "GradientPenalty: real and generated samples must have the same shape, got "
        f"{shape} and {generated}",
    ):
        trainer.step(torch.randn(shape))


def test_penalties_have_value_semantics():
    assert R1(1.0) == R1(1.0)
    assert R1(1.0) != R2(1.0)
    assert repr(R1(2.0, every=4)) == "R1(every=4, gamma=2.0, sigma=None, of='sample')"
