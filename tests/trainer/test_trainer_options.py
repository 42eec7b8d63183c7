"""GANTrainer's options, each compared with a manual loop, or with the trainer without the option."""

import copy
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import DEVICES, raises
from helpers.trainer import assert_same, everything, setup
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import pygan
from pygan import fused_losses
from pygan.penalties import R1, R2, GradientPenalty
from pygan.schedules import Constant, Linear


def plain_networks():
    """Networks without BatchNorm, whose result depends on the division into micro-batches."""
    torch.manual_seed(0)
    G = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6))
    return G, nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))


def trainer_of(G, D, lr=0.1, **options):
    optimizers = [torch.optim.SGD(net.parameters(), lr=lr) for net in (G, D)]
    return pygan.GANTrainer(G, D, *optimizers, **{"latent": 4, "seed": 1, **options})


@pytest.mark.parametrize("loss", ["non_saturating", "hinge", "relativistic"])
@pytest.mark.parametrize("parts", [2, 3, 7, 100])
def test_micro_batches_add_up_to_the_batch(parts, loss):
    whole, split = (
        trainer_of(*plain_networks(), loss=loss, penalties=[R1(1.0), R2(0.5)], **options)
        for options in ({}, {"micro_batches": parts})
    )
    sizes = []
    split.discriminator.register_forward_hook(lambda _, x, y: sizes.append(len(y)))
    for _ in range(3):
        real = torch.randn(7, 6)
        sizes.clear()
        stats, want = split.step(real), whole.step(real)
        torch.testing.assert_close(stats, want, rtol=1e-4, atol=1e-6, equal_nan=True)
        torch.testing.assert_close(split.fake, whole.fake, rtol=1e-4, atol=1e-5)
        assert max(sizes) == -(-7 // min(parts, 7))
        assert sum(sizes) == 7 * (4 if loss == "relativistic" else 3)
    for ours, theirs in (
        (split.generator, whole.generator),
        (split.discriminator, whole.discriminator),
    ):
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-4, atol=1e-5)


def test_nonfinite_logits_of_all_micro_batches_are_counted():
    trainer = trainer_of(*plain_networks(), micro_batches=4)
    real = torch.randn(8, 6)
    real[[0, 1, 6], 0] = math.nan
    assert trainer.step(real).nonfinite == 3


@pytest.mark.parametrize("offset", [1e3, 1e4])
def test_standard_deviations_of_micro_batches_with_a_large_mean(offset):
    """For logits whose mean is so large that its square cancels the deviations in float32."""
    whole, split = (
        trainer_of(*plain_networks(), loss="wasserstein", **options)
        for options in ({}, {"micro_batches": 4})
    )
    real = torch.randn(64, 6)
    stats = []
    for trainer in (whole, split):
        nn.init.constant_(trainer.discriminator[-1].bias, offset)
        stats.append(trainer.discriminator_step(real)[1])
    for name in ("real_std", "fake_std"):
        want, got = (getattr(s, name) for s in stats)
        torch.testing.assert_close(got, want, rtol=1e-2, atol=0)


def test_gradients_are_clipped_to_the_norm():
    clipped, plain = (
        trainer_of(*plain_networks(), lr=0.0, max_grad_norm=norm) for norm in (1e-3, None)
    )
    real = 5 * torch.randn(16, 6)
    clipped.step(real)
    plain.step(real)
    for ours, theirs in (
        (clipped.generator, plain.generator),
        (clipped.discriminator, plain.discriminator),
    ):
        gradients = [p.grad for p in theirs.parameters()]
        norm = torch.nn.utils.get_total_norm(gradients)
        assert norm > 1e-2
        want = [g * (1e-3 / norm) for g in gradients]
        torch.testing.assert_close([p.grad for p in ours.parameters()], want, rtol=1e-3, atol=0)


def test_a_custom_average():
    """torch's default: all steps have equal weights (stochastic weight averaging)."""
    G, D = plain_networks()
    trainer = trainer_of(G, D, ema=AveragedModel(G))
    steps = []
    for _ in range(4):
        trainer.step(torch.randn(8, 6))
        steps.append([p.detach().clone() for p in G.parameters()])
    means = [torch.stack(each).mean(0) for each in zip(*steps, strict=True)]
    torch.testing.assert_close([p.detach() for p in trainer.ema.parameters()], means)
    assert_same(trainer.sample(3, latent=(z := torch.randn(3, 4))), trainer.ema(z).detach())


def test_the_average_equals_torchs_and_is_sampled():
    trainer = setup(ema=0.9)
    want = AveragedModel(
        trainer.generator, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True
    )
    plain = setup()
    plain.stream.load_state_dict(trainer.stream.state_dict())
    for _ in range(4):
        real = torch.randn(8, 6)
        assert_same(trainer.step(real), plain.step(real))
        want.update_parameters(trainer.generator)
    expected, count = want.state_dict(), "module.1.num_batches_tracked"
    expected[count] = trainer.generator[
        1
    ].num_batches_tracked  # torch averages integers too, and rounds down
    assert_same(trainer.ema.state_dict(), expected)
    assert_same(trainer.generator.state_dict(), plain.generator.state_dict())
    z = torch.randn(5, 4)
    samples = trainer.sample(5, latent=z)
    assert_same(samples, want.eval()(z).detach())
    assert not samples.requires_grad
    assert not torch.equal(samples, plain.sample(5, latent=z))


def test_an_average_continues_from_torchs_state_or_a_copy(tmp_path):
    """It continues at the saved count, because only the very first update copies."""
    G = setup().generator
    torchs = AveragedModel(G, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    ours = pygan.EMA(G, 0.9)
    fresh = ours.state_dict()
    for _ in range(2):
        with torch.no_grad():
            G[0].weight.add_(1.0)
        torchs.update_parameters(G)
    ours.load_state_dict(torchs.state_dict())
    torch.save(ours, tmp_path / "whole.pt")
    every = [ours, copy.deepcopy(ours), torch.load(tmp_path / "whole.pt", weights_only=False)]
    G[0].weight.data.add_(1.0)
    for average in (torchs, *every):
        average.update_parameters(G)
    for average in every:
        assert_same(average.state_dict(), torchs.state_dict())
    ours.load_state_dict({name: torch.zeros_like(value) for name, value in fresh.items()})
    ours.update_parameters(G)
    assert_same(ours.module.state_dict(), G.state_dict())
    assert ours.n_averaged == 1
    for decay in (0.0, 1.0, True, "0.9"):
        with pytest.raises(ValueError, match=r"pygan\.EMA: decay must be a number between 0 and 1"):
            pygan.EMA(G, decay)


def test_the_first_update_is_not_captured(monkeypatch):
    """A graph would contain the copy, and every replay would reset the average to the generator."""
    G = setup().generator
    average = pygan.EMA(G, 0.9)
    before = average.state_dict()
    monkeypatch.setattr(pygan.average, "_device", lambda network: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    message = "pygan.EMA: update_parameters must have run before a CUDA graph captures it (warm up"
    with raises(RuntimeError, message, "got no update yet"):
        average.update_parameters(G)
    assert_same(average.state_dict(), before)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    average.update_parameters(G)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    average.update_parameters(G)
    assert average.n_averaged == 2


def only_buffers():
    """A module with only buffers, float32 and int64."""
    network = nn.Module()
    network.register_buffer("mean", torch.ones(2))
    network.register_buffer("count", torch.tensor(2))
    return network


@pytest.mark.parametrize("make", [nn.Identity, only_buffers])
def test_an_average_of_a_network_without_parameters(make):
    network = make()
    average = pygan.EMA(network, 0.9)
    for _ in range(2):
        for buffer in network.buffers():
            buffer += 1
        average.update_parameters(network)
    assert average.n_averaged == 2
    if make is only_buffers:
        torch.testing.assert_close(average.module.mean, torch.full((2,), 2.1))
        assert average.module.count == 4


def test_sampling_uses_eval_mode_and_restores_the_modes():
    trainer = setup()
    trainer.step(torch.randn(8, 6))
    G = trainer.generator
    G[2].eval()
    modes = [module.training for module in G.modules()]
    z = torch.randn(5, 4)
    buffers = copy.deepcopy(G[1].state_dict())
    samples = trainer.sample(5, latent=z)
    assert [module.training for module in G.modules()] == modes
    assert_same(G[1].state_dict(), buffers)
    assert_same(samples, G.eval()(z).detach())
    assert trainer.sample(3).shape == (3, 6)
    assert not torch.equal(trainer.sample(3), trainer.sample(3))


class Conditional(nn.Module):
    """Takes labels as its second argument, and stores them."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer, self.table = nn.Linear(inputs, outputs), nn.Embedding(10, outputs)
        self.seen = []

    def forward(self, x, labels):
        self.seen.append(labels)
        return torch.tanh(self.layer(x) + self.table(labels))


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_labels_reach_both_networks(micro_batches):
    torch.manual_seed(0)
    G, D = Conditional(4, 6), Conditional(6, 1)
    trainer = trainer_of(
        G,
        D,
        d_steps=2,
        micro_batches=micro_batches,
        penalties=[R1(1.0), GradientPenalty()],
        loss="relativistic",
    )
    batches, labels = torch.randn(2, 6, 6), torch.randint(10, (2, 6))
    trainer.step(list(batches), list(labels))
    parts = [y for batch in (*labels, labels[1]) for y in batch.tensor_split(micro_batches)]
    assert_same(G.seen, parts)  # two discriminator steps, one generator step
    asked = [y for y in parts[: -len(parts) // 3] for _ in range(3)]  # real, between, fake
    assert_same(D.seen, asked + [y for y in parts[-micro_batches:] for _ in range(2)])
    trainer.discriminator_step(batches[0], labels[0])
    trainer.generator_step(6, batches[0], labels[0])
    assert trainer.sample(6, labels[0]).shape == (6, 6)
    assert_same(G.seen[-1], labels[0])


def test_custom_hooks():
    G, D = plain_networks()
    seen = []
    trainer = trainer_of(
        G,
        D,
        latent=3,
        generator_inputs=lambda z, labels: (torch.cat([z, labels], 1),),
        augment=lambda x: seen.append(x) or x.flip(1),
        noise=pygan.InstanceNoise(Constant(0.0), seed=1),
    )
    got = []
    D.register_forward_pre_hook(lambda _, x: got.append(x[0]))
    D.forward = lambda x, labels=None: nn.Sequential.forward(D, x)
    real = torch.randn(8, 6)
    trainer.step(real, torch.ones(8, 1))
    assert_same(seen[0], real)
    assert_same([x.detach() for x in got], [x.detach().flip(1) for x in seen])
    assert len(seen) == 3
    assert_same(seen[-1].detach(), trainer.fake)
    assert trainer.sample(2, torch.zeros(2, 1)).shape == (2, 6)
    assert_same(trainer.real, real)


class Squares:
    """Least squares in plain PyTorch."""

    def discriminator_loss(self, real_logits, fake_logits):
        return 0.5 * (real_logits - 1).square().mean() + 0.5 * fake_logits.square().mean()

    def generator_loss(self, fake_logits):
        return 0.5 * (fake_logits - 1).square().mean()


@pytest.mark.parametrize(
    ("own", "name"), [(Squares(), "least_squares"), (fused_losses, "non_saturating")]
)
def test_a_custom_loss_trains_like_the_named_one(own, name):
    ours, theirs = (trainer_of(*plain_networks(), loss=loss) for loss in (own, name))
    for _ in range(3):
        real = torch.randn(8, 6)
        stats, want = ours.step(real), theirs.step(real)
        assert stats.jsd_bound.isnan()
        # The decision value of a custom loss is unknown, so the sign of the logits is used.
        unknown = ["jsd_bound"]
        if name == "least_squares":
            unknown += ["real_accuracy", "fake_accuracy", "real_sign"]
        same = {field: getattr(stats, field) for field in unknown}
        torch.testing.assert_close(stats, want._replace(**same), equal_nan=True)
    torch.testing.assert_close(ours.discriminator.state_dict(), theirs.discriminator.state_dict())
    torch.testing.assert_close(ours.generator.state_dict(), theirs.generator.state_dict())


def test_messages_name_the_class_of_a_custom_loss():
    trainer = trainer_of(*plain_networks(), loss=Squares())
    real = torch.randn(8, 6)
    with pytest.raises(ValueError, match="must be None for the custom loss Squares, got Tensor"):
        trainer.generator_step(8, real)
    trainer.separate = True
    with pytest.raises(ValueError, match=r"got True with the custom loss Squares$"):
        trainer.step(real)


@pytest.mark.parametrize("verb", ["discriminator_loss", "generator_loss"])
@pytest.mark.parametrize(
    ("result", "got"), [(1.0, "float"), (torch.ones(1), r"a tensor of shape \(1,\)")]
)
def test_a_custom_loss_that_is_no_scalar_is_refused(verb, result, got):
    loss = Squares()
    setattr(loss, verb, lambda *_: result)
    trainer = trainer_of(*plain_networks(), loss=loss)
    with pytest.raises(TypeError, match=f"GANTrainer: loss.{verb} must return a 0-d .*, got {got}"):
        trainer.step(torch.randn(8, 6))


@pytest.mark.parametrize("kind", [np.float32, Fraction])
def test_numbers_of_other_types(kind):
    numbers = {"ema": 0.5, "adversarial_weight": 0.25, "weights": 0.5, "label_smoothing": 0.125}
    ours, theirs = (
        setup(seed=0, **{name: of(value) for name, value in numbers.items()})
        for of in (kind, float)
    )
    assert isinstance(ours.ema, pygan.EMA)
    for _ in range(2):
        real = torch.randn(8, 6)
        assert_same(ours.step(real), theirs.step(real))
    assert_same(everything(ours), everything(theirs))


def test_noise_from_a_number_or_a_schedule():
    for given in (0.25, Linear(0.25, 0.0, 10)):
        trainer = trainer_of(*plain_networks(), noise=given)
        assert isinstance(trainer.noise, pygan.InstanceNoise)
        assert trainer.noise.sigma == 0.25
        assert trainer.noise.stream.seed == 1
        assert trainer.stream.seed != 1


def test_latents_are_normals_of_the_stream():
    z = []
    trainer = trainer_of(*plain_networks())
    trainer.generator.register_forward_pre_hook(lambda _, x: z.append(x[0]))
    trainer.step(torch.randn(8, 6))
    stream = pygan.NoiseStream(trainer.stream.seed)
    want = [pygan.instance_noise(torch.zeros(8, 4), 1.0, stream=stream) for _ in range(2)]
    assert_same(z, want)


def test_torchs_seed_reproduces_a_run():
    def run(seed):
        G, D = plain_networks()
        torch.manual_seed(seed)
        trainer = trainer_of(G, D, seed=None, noise=0.1)
        return torch.stack(trainer.step(torch.randn(8, 6)))

    assert_same(run(3), run(3))
    assert not torch.equal(run(3), run(4))


@pytest.mark.parametrize("max_grad_norm", [None, 0.01])
def test_scaled_gradients_give_the_same_training(max_grad_norm):
    """Powers of two, so that scaling does not change any bit."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    options = dict(penalties=R1(1.0), max_grad_norm=max_grad_norm)
    scaled = trainer_of(*plain_networks(), scaler=scaler, **options)
    plain = trainer_of(*plain_networks(), **options)
    for _ in range(4):
        real = torch.randn(8, 6)
        assert_same(scaled.step(real), plain.step(real))
    assert_same(scaled.generator.state_dict(), plain.generator.state_dict())
    assert_same(scaled.discriminator.state_dict(), plain.discriminator.state_dict())
    assert scaler.get_scale() > 2.0**10


def test_an_update_that_overflows_is_skipped():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    trainer = trainer_of(*plain_networks(), scaler=scaler)
    before = copy.deepcopy(trainer.discriminator.state_dict())
    trainer.discriminator_step(torch.full((8, 6), math.inf))
    assert_same(trainer.discriminator.state_dict(), before)
    assert scaler.get_scale() == 2.0**9


class HalfPrecision(nn.Module):
    """Linear layers under autocast to fp16, which return the logits as a tensor or a list."""

    def __init__(self, listed):
        super().__init__()
        self.layer, self.listed = nn.Linear(1, 1), listed
        nn.init.ones_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, x):
        with torch.autocast(x.device.type, torch.float16):
            logits = self.layer(x)
        assert logits.dtype == torch.float16
        return [logits] if self.listed else logits


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("loss", ["non_saturating", "relativistic"])
def test_gradients_are_scaled_before_they_are_rounded_to_fp16(loss, listed, device):
    """As in PyTorch's recipe. Unscaled, the gradients of 262,144 logits are too small for fp16."""
    n, ones = 1 << 18, torch.ones(1 << 18, 1, device=device)
    G, D = nn.Linear(1, 1).to(device), HalfPrecision(listed).to(device)
    nn.init.constant_(G.weight, -3.0)
    nn.init.constant_(G.bias, -3.0)
    scaler = torch.amp.GradScaler(device)
    trainer = trainer_of(G, D, latent=lambda n: ones, loss=loss, lr=0.0, scaler=scaler)
    trainer.discriminator_step(6 * ones)
    value = fused_losses.discriminator_loss(D(6 * ones), D(G(ones).detach()), loss=loss)
    want = torch.autograd.grad(scaler.scale(value), list(D.parameters()))
    assert want[0].abs() > 1.0
    # The optimizer step has unscaled the gradients.
    got = [2.0**16 * p.grad for p in D.parameters()]
    torch.testing.assert_close(got, list(want), rtol=2e-3, atol=1e-2)
    given = {"real_logits": D(6 * ones)} if loss == "relativistic" else {}
    trainer.generator_step(n, 6 * ones if given else None)
    value = fused_losses.generator_loss(D(G(ones)), loss=loss, **given)
    want = torch.autograd.grad(scaler.scale(value), list(G.parameters()))
    got = [2.0**16 * p.grad for p in G.parameters()]
    torch.testing.assert_close(got, list(want), rtol=2e-3, atol=1e-2)


def test_penalties_may_be_added_and_taken_away():
    trainer = setup(penalties=[R1(1.0)])
    trainer.step(torch.randn(8, 6))
    trainer.penalties.append(R2(1.0))
    both = trainer.step(torch.randn(8, 6)).penalty
    other = setup(penalties=[R1(1.0), R2(1.0)])
    other.load_state_dict(trainer.state_dict())
    assert_same(both, sum(trainer.state_dict()["penalties"]))
    del trainer.penalties[:]
    assert trainer.step(torch.randn(8, 6)).penalty == 0
