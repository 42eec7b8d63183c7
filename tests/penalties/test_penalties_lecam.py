"""LeCam against its formula in plain PyTorch: in a custom loop, and in GANTrainer, including its state."""

import copy

import pytest
import torch
from helpers import DEVICES, raises
from helpers.sync import NoSync
from helpers.trainer import assert_same, networks, setup
from torch import nn

import pygan
from pygan.penalties import R1, LeCam
from pygan.training.checkpoint_settings import changes, settings


class WrittenOut:
    """Tseng et al. 2021: averages in Python floats that start at 0 and are the batch's before `start`, updated before
    the penalty, as in lecam-gan; with start=0 as in Open-MAGVIT2."""

    def __init__(self, decay, start):
        self.decay, self.start, self.calls, self.real, self.fake = decay, start, 0, 0.0, 0.0

    def __call__(self, r, f):
        decay = self.decay if self.calls >= self.start else 0.0
        self.real = self.real * decay + r.mean().item() * (1 - decay)
        self.fake = self.fake * decay + f.mean().item() * (1 - decay)
        self.calls += 1
        penalty = (r - self.fake).relu().pow(2).mean() + (self.real - f).relu().pow(2).mean()
        return penalty if self.calls > self.start else 0 * penalty


def logits(n=6, dtype=torch.float64, device="cpu"):
    """Logits of batches that drift; real and generated ones have different shapes."""
    generator = torch.Generator().manual_seed(1)
    for i in range(n):
        yield [
            (torch.randn(shape, generator=generator, dtype=torch.float64) + i / 4)
            .to(dtype)
            .to(device)
            .requires_grad_()
            for shape in ((4, 1, 3), (5, 1))
        ]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("start", [0, 1, 3])
@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999])
def test_equals_the_formula_written_out(decay, start, device):
    lecam, written_out = LeCam(0.3, decay, start), WrittenOut(decay, start)
    for r, f in logits(device=device):
        got, want = lecam(r, f), 0.3 * written_out(r, f)
        assert got.dtype == torch.float64 and got.shape == ()
        torch.testing.assert_close(got, want)
        grads = [torch.autograd.grad(x, [r, f]) for x in (got, want)]
        torch.testing.assert_close(*grads)
        averages = torch.tensor([[written_out.real], [written_out.fake]], device=device)
        torch.testing.assert_close(lecam.averages, averages.double())
    assert lecam.calls == 6


def test_gradcheck():
    lecam = LeCam(0.3, 0.9)
    for r, f in logits(2):
        lecam(r, f)
    lecam.eval()
    for r, f in logits(1):
        assert torch.autograd.gradcheck(lecam, (r, f))
        assert torch.autograd.gradgradcheck(lecam, (r, f))


def test_scales_have_separate_averages_and_are_summed():
    both = LeCam(0.3, 0.9, 2, scales=2)
    one, two = (LeCam(0.3, 0.9, 2) for _ in range(2))
    for r, f in logits():
        got = both([r, 3 * r], [f, 2 * f[:1]])
        want = one(r, f) + two(3 * r, 2 * f[:1])
        torch.testing.assert_close(got, want)
    torch.testing.assert_close(both.averages, torch.cat([one.averages, two.averages], 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [2.0**-14, 2.0**10])
def test_squares_in_low_precision_do_not_underflow_or_overflow(dtype, scale):
    lecam = LeCam(1.0, 0.5, 0)
    r, f = (torch.full((1024,), x * scale, dtype=dtype) for x in (2.0, -2.0))
    got = lecam(r, f)
    assert got.dtype == torch.float32
    # Averages of ±1, so that each is at distance 3 from the other side's.
    assert got == 2 * (3 * scale) ** 2


def test_a_0_d_mean_keeps_its_dtype():
    """As in TiTok."""
    got = LeCam(1.0, 0.5, 0)(torch.tensor(2.0), torch.tensor(-2.0))
    assert got.dtype == torch.float32
    assert got == 18.0


def test_averages_do_not_change_in_eval_mode():
    lecam = LeCam(0.3)
    (r, f), (r2, f2) = logits(2)
    lecam(r, f)
    lecam.eval()
    before = copy.deepcopy(lecam.state_dict())
    want = 0.3 * ((r2 - f.mean()).relu().pow(2).mean() + (r.mean() - f2).relu().pow(2).mean())
    torch.testing.assert_close(lecam(r2, f2), want.detach(), check_dtype=False)
    assert_same(lecam.state_dict(), before)


def test_a_non_finite_mean_does_not_change_the_averages():
    """A skipped step must not affect later steps."""
    lecam = LeCam(0.3)
    (r, f), _ = logits(2)
    lecam(r, f)
    before = lecam.averages.clone()
    assert lecam(r * float("nan"), f * float("inf")).isnan()
    assert_same(lecam.averages, before)
    assert lecam(r, f).isfinite()


def test_the_state_is_part_of_an_enclosing_module():
    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.lecam = LeCam(0.3, 0.9)

    first, second = Loss(), Loss()
    batches = list(logits())
    for r, f in batches[:3]:
        first.lecam(r, f)
    second.load_state_dict(first.state_dict())
    for r, f in batches[3:]:
        assert_same(second.lecam(r, f), first.lecam(r, f))
    assert set(first.state_dict()) == {"lecam.averages", "lecam.calls"}
    exact = first.lecam.averages.clone()
    assert_same(first.half().lecam.averages, exact)
    assert len(set(Loss().modules()) | set(first.modules())) == 4  # modules compare by identity


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_no_synchronization(device):
    lecam = LeCam(0.3, scales=2).to(device)
    batches = list(logits(device=device))
    with NoSync():
        for r, f in batches:
            lecam([r, r], [f, f]).backward()


def test_the_trainer_equals_a_hand_written_loop():
    trainer = setup(1, loss="hinge", penalties=[LeCam(0.3, 0.9, 2, every=2)])
    G, D = networks(1)
    d_opt = torch.optim.Adam(D.parameters(), lr=1e-2)
    stream, written_out = pygan.NoiseStream(trainer.stream.seed), WrittenOut(0.9, 2)
    for step in range(7):
        real = torch.randn(8, 6)
        with torch.no_grad():
            fake = G(pygan.instance_noise(torch.zeros(8, 4), 1.0, stream=stream))
        r, f = D(real), D(fake)
        loss = pygan.fused_losses.discriminator_loss(r, f, loss="hinge")
        if step % 2 == 0:
            loss = loss + 2 * 0.3 * written_out(r, f)
        d_opt.zero_grad()
        loss.backward()
        d_opt.step()
        trainer.discriminator_step(real)
    torch.testing.assert_close(trainer.discriminator.state_dict(), D.state_dict())
    assert written_out.calls == trainer.penalties[0].calls == 4


def test_the_state_is_part_of_the_trainers_state():
    batches = torch.randn(6, 8, 6)

    def make():
        return setup(1, penalties=[R1(1.0), LeCam(0.3, 0.9, 2)], noise=0.1)

    whole, first, resumed = make(), make(), make()
    rows = [whole.step(x) for x in batches]
    for x in batches[:4]:
        first.step(x)
    # As for noise: a new trainer, and the state from torch.save.
    resumed.load_state_dict(copy.deepcopy(first.state_dict()))
    assert_same([resumed.step(x) for x in batches[4:]], rows[4:])
    assert_same(resumed.penalties[1].averages, whole.penalties[1].averages)
    assert whole.state_dict()["penalty 1"]["calls"] == 6


def test_the_trainer_does_not_synchronize():
    G, D = networks()
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
    trainer = pygan.GANTrainer(G, D, *optimizers, latent=4, penalties=LeCam(0.3))
    with NoSync():
        for _ in range(2):
            trainer.step(torch.randn(8, 6))


def test_a_failed_step_does_not_change_the_averages():
    """The discriminator's loss is checked first."""

    class Fails:
        def discriminator_loss(self, real, fake):
            raise ValueError("mine")

        def generator_loss(self, fake):
            return fake.mean()

    trainer = setup(penalties=LeCam(0.3), loss=Fails())
    with pytest.raises(ValueError, match="mine"):
        trainer.step(torch.randn(8, 6))
    assert trainer.penalties[0].calls == 0


def test_arguments_are_settings_of_a_run():
    before, now = (
        settings(setup(penalties=given), {}, [])
        for given in (LeCam(0.3), LeCam(0.5, 0.9, 7, every=2))
    )
    assert changes(now, before) == {
        "penalties[0].decay": (0.99, 0.9),
        "penalties[0].every": (1, 2),
        "penalties[0].start": (1, 7),
        "penalties[0].weight": (0.3, 0.5),
    }


X = torch.zeros(3, 1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LeCam(0.0), ValueError, "weight must be positive and finite, got 0.0"),
        (lambda: LeCam(True), TypeError, "weight must be a number, got bool"),
        (lambda: LeCam("1"), TypeError, "weight must be a number, got str"),
        (lambda: LeCam(1.0, 1.0), ValueError, "decay must be from 0 to below 1, got 1.0"),
        (lambda: LeCam(1.0, float("nan")), ValueError, "decay must be from 0 to below 1, got nan"),
        (lambda: LeCam(1.0, "a"), TypeError, "decay must be a number, got str"),
        (lambda: LeCam(1.0, start=-1), ValueError, "start must be an int of at least 0, got -1"),
        (lambda: LeCam(1.0, start=1.5), ValueError, "start must be an int of at least 0, got 1.5"),
        (lambda: LeCam(1.0, scales=0), ValueError, "scales must be an int of at least 1, got 0"),
        (lambda: LeCam(1.0, every=0), ValueError, "every must be an int of at least 1, got 0"),
        (lambda: LeCam(1.0)(X, [X, X]), ValueError, "fake_logits must hold 1 tensor(s), the number of scales, got 2"),
        (lambda: LeCam(1.0, scales=2)(X, X), ValueError, "real_logits must hold 2 tensor(s), the number of scales"),
        (lambda: LeCam(1.0, scales=2)((X, X), (X, X)), TypeError,
         "real_logits must be a tensor or a list of tensors, one for each scale, got a tuple of length 2; select the"),
        (lambda: LeCam(1.0)(X.int(), X), TypeError,
         "real_logits must be float32, float64, float16 or bfloat16, got torch.int32"),
        (lambda: LeCam(1.0)(X, X[:0]), ValueError, "fake_logits must not be empty, got a tensor of shape (0, 1)"),
        (lambda: LeCam(1.0)(X, 1.0), TypeError, "fake_logits must be a tensor or a list of tensors, got float"),
        (lambda: LeCam(1.0)(X, X.to("meta")), ValueError, "real_logits and fake_logits must be on one device, got"),
    ],
)  # fmt: skip
def test_invalid_arguments_are_refused(call, error, message):
    with raises(error, f"LeCam: {message}"):
        call()


def test_repr():
    assert repr(LeCam(0.3)) == "LeCam(0.3, decay=0.99, start=1, scales=1, every=1)"


def test_a_non_finite_first_call_does_not_start_the_averages():
    lecam = LeCam(1.0, decay=0.9)
    lecam(torch.full((4,), float("inf")), torch.full((4,), float("nan")))
    assert lecam.calls.item() == 0
    lecam(torch.full((4,), 3.0), torch.full((4,), -2.0))
    torch.testing.assert_close(lecam.averages.flatten(), torch.tensor([3.0, -2.0]).double())
