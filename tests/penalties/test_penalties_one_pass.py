"""R1, R2 and all other exact penalties of a step take one double backward; so does r1_and_r2, for one forward pass or
two."""

from unittest import mock

import pytest
import torch
from helpers import raises
from helpers.trainer import networks
from torch import nn
from torch.func import functional_call

import pygan
from pygan.penalties import R1, R2, GradientPenalty, Penalty, r1, r1_and_r2, r2

COUNTS = {"forward": 0, "backward": 0, "double backward": 0}


class Counted(torch.autograd.Function):
    """tanh that counts the traversals of its graph."""

    @staticmethod
    def forward(ctx, x):
        COUNTS["forward"] += 1
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        return CountedBackward.apply(ctx.saved_tensors[0], grad)


class CountedBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y, grad):
        COUNTS["backward"] += 1
        ctx.save_for_backward(y, grad)
        return (1 - y * y) * grad

    @staticmethod
    def backward(ctx, grad):
        COUNTS["double backward"] += 1
        y, first = ctx.saved_tensors
        return -2 * y * first * grad, (1 - y * y) * grad


class Discriminator(nn.Module):
    def __init__(self, outputs=3, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(6, 8).to(dtype), nn.Linear(8, outputs).to(dtype)

    def forward(self, x):
        return self.last(Counted.apply(self.first(x)))


@pytest.fixture(autouse=True)
def counts():
    COUNTS.update(dict.fromkeys(COUNTS, 0))
    return COUNTS


def leaves(n=5, m=5):
    generator = torch.Generator().manual_seed(1)
    shapes = [(n, 6), (m, 6)]
    return [
        torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes
    ]


def squares(D, x):
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
    return gradient.square().sum(1)


def test_r1_and_r2_equal_r3gans_with_one_double_backward(counts):
    D, (real, fake) = Discriminator(), leaves()
    want = 0.5 * 0.7 * (squares(D, real).mean() + squares(D, fake).mean())
    gradients = torch.autograd.grad(want, list(D.parameters()), allow_unused=True)
    counts.update(dict.fromkeys(counts, 0))
    real_logits, fake_logits = D(torch.cat([real, fake])).chunk(2)
    got = r1_and_r2(real, fake, real_logits, fake_logits, 0.7)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(
        torch.autograd.grad(got, list(D.parameters()), allow_unused=True), gradients
    )
    # The second backward pass traverses the graphs of the first one and of the forward pass once each.
    assert counts == {"forward": 1, "backward": 2, "double backward": 1}


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("lists", [False, True])
def test_r1_and_r2_equals_the_sum_of_both(joint, lists):
    """Also for batches of different sizes, and for lists of logits."""
    one, two, (real, fake) = Discriminator(), Discriminator(1), leaves(5, 3)

    def judge(x):
        return [one(x), two(x).squeeze(1)] if lists else one(x)

    if joint:
        scales = judge(torch.cat([real, fake]))
        split = [x.split([5, 3]) for x in (scales if lists else [scales])]
        logits = [[x[i] for x in split] if lists else split[0][i] for i in (0, 1)]
    else:
        logits = [judge(real), judge(fake)]
    parts = r1_and_r2(real, fake, *logits, 2.0, reduction="none")
    want = [f(x, judge(x), 2.0, reduction="none") for f, x in ((r1, real), (r2, fake))]
    torch.testing.assert_close(list(parts), want)
    torch.testing.assert_close(r1_and_r2(real, fake, *logits, 2.0), want[0].mean() + want[1].mean())


def test_two_forward_passes_take_one_autograd_call():
    D, (real, fake) = Discriminator(), leaves()
    with mock.patch.object(torch.autograd, "grad", wraps=torch.autograd.grad) as grad:
        r1_and_r2(real, fake, D(real), D(fake), 1.0)
    assert grad.call_count == 1


def test_gradcheck_for_parameters():
    D, (real, fake) = Discriminator(), leaves(3, 3)

    def penalty(*weights):
        named = dict(zip(dict(D.named_parameters()), weights, strict=True))
        logits = functional_call(D, named, torch.cat([real, fake]))
        return r1_and_r2(real, fake, *logits.chunk(2), 1.5)

    assert torch.autograd.gradcheck(penalty, [p.detach().requires_grad_() for p in D.parameters()])


@pytest.mark.parametrize("exponent", [-13, 8])
def test_squared_fp16_gradients_do_not_underflow_or_overflow(exponent):
    """Nor does their sum over 1,024 elements of 2^exponent."""
    real, fake = (torch.ones(2, 1024, dtype=torch.float16, requires_grad=True) for _ in range(2))
    logits = [(x * 2.0**exponent).sum(1) for x in (real, fake)]
    got = r1_and_r2(real, fake, *logits, 1.0)
    assert got.dtype == torch.float32
    assert got == 1024 * 4.0**exponent


class OnTheFakes(Penalty):
    """A custom penalty that gets the gradient from the trainer."""

    @property
    def differentiates(self):
        return frozenset({"fake"})

    def value(self, real, fake, probe, step):
        return fake.gradient.abs().sum(1).mean()


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_all_exact_penalties_of_a_step_take_one_autograd_call(micro_batches):
    penalties = [R1(1.0), R2(0.5), GradientPenalty(2.0), R1(0.25), OnTheFakes()]

    def step(given):
        G, D = networks()[0].double(), Discriminator(1)
        optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
        trainer = pygan.GANTrainer(
            G, D, *optimizers, latent=4, seed=1, penalties=given, micro_batches=micro_batches
        )
        real = torch.randn(8, 6, generator=torch.Generator().manual_seed(2)).double()
        with mock.patch.object(torch.autograd, "grad", wraps=torch.autograd.grad) as grad:
            trainer.discriminator_step(real)
        return grad.call_count, trainer

    calls, trainer = step(penalties)
    assert calls == micro_batches
    # With SGD, the updates for one penalty at a time add up.
    before = Discriminator(1).state_dict()
    without = step([])[1].discriminator.state_dict()
    want = {k: v.clone() for k, v in without.items()}
    for penalty in penalties:
        calls, alone = step(penalty)
        assert calls == micro_batches
        for k, v in alone.discriminator.state_dict().items():
            want[k] += v - without[k]
    torch.testing.assert_close(trainer.discriminator.state_dict(), want)
    assert any(not torch.equal(before[k], want[k]) for k in want)


def test_lazy_penalties_that_are_not_due_are_not_differentiated():
    G, D = networks()
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
    trainer = pygan.GANTrainer(
        G, D, *optimizers, latent=4, penalties=[R1(1.0, every=2), R2(1.0, every=3)]
    )
    for calls in (1, 0, 1, 1, 1, 0):
        with mock.patch.object(torch.autograd, "grad", wraps=torch.autograd.grad) as grad:
            trainer.discriminator_step(torch.randn(8, 6))
        assert grad.call_count == calls


def test_invalid_arguments_of_r1_and_r2_are_refused():
    D, (real, fake) = Discriminator(), leaves()
    both = torch.cat([real, fake])
    logits = D(both)
    op = "pygan.penalties.r1_and_r2"
    with raises(ValueError, f"{op}: real must require a gradient (real.requires_grad_()) before"):
        r1_and_r2(real.detach(), fake, *logits.chunk(2), 1.0)
    with raises(ValueError, f"{op}: fake_logits must have fake's first dimension, 5, got a tensor"):
        r1_and_r2(real, fake, logits[:5], logits, 1.0)
    with raises(ValueError, f"{op}: real and fake must be two tensors, got the same one twice"):
        r1_and_r2(real, real, D(real), D(real), 1.0)
    # Parts of the concatenated samples are not the discriminator's input.
    with raises(RuntimeError, f"{op}: real_logits must depend on real, got logits that do not"):
        r1_and_r2(*both.chunk(2), *logits.chunk(2), 1.0)
    with raises(RuntimeError, f"{op}: fake_logits must depend on fake, got logits that do not"):
        r1_and_r2(real, fake, D(real), D(fake.detach()), 1.0)
    with raises(ValueError, f"{op}: reduction must be mean or none, got 'sum'"):
        r1_and_r2(real, fake, *logits.chunk(2), 1.0, reduction="sum")
    with raises(ValueError, f"{op}: gamma must be positive and finite, got -1.0"):
        r1_and_r2(real, fake, *logits.chunk(2), -1.0)
