"""GANTrainer's discriminator step with both sides in one batch, and with one side after the other."""

import copy
import itertools
import weakref

import pytest
import torch
from helpers.recipes import Scales, assert_close, latents, pairs, update
from helpers.trainer import assert_same, everything, setup
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

import pygan
from pygan import fused_losses
from pygan.penalties import R1, R2, GradientPenalty, LeCam, Penalty
from pygan.schedules import Constant, DiffusionMixture


class Conditional(nn.Module):
    """A discriminator of samples and a tree of conditions, with dropout, that also returns features."""

    def __init__(self):
        super().__init__()
        # For some losses, a bias that shifts all logits has a gradient of 0, whose rounding Adam would amplify to full
        # steps.
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 1, bias=False)
        self.table = nn.Embedding(3, 16)
        self.dropout = nn.Dropout(0.0)

    def forward(self, x, labels):
        features = torch.tanh(self.first(x) + self.table(labels["class"]) + labels["more"][0])
        return {"features": [features], "logits": self.last(self.dropout(features)), "n": 3}


def labels(n=8):
    return {"class": torch.randint(3, (n,)), "more": (torch.randn(n, 16).double(),)}


PENALTIES = {
    "none": [],
    "exact": [R1(0.5), R2(0.25), GradientPenalty(1.0)],
    "lazy": [R1(0.5, every=2), R2(0.25)],
    "approximate": [R1(0.5, sigma=0.1), R2(0.25, sigma=0.1), R2(0.25, sigma=0.2)],
    "of both": [LeCam(0.1)],
}
ALONE = [name for name in PENALTIES if name != "of both"]


@pytest.mark.parametrize("noise", [None, 0.2, "mixture"])
@pytest.mark.parametrize(
    ("way", "penalties", "loss"),
    [
        *itertools.product(["joint"], PENALTIES, ["non_saturating", "relativistic"]),
        *itertools.product(["separate"], ALONE, ["hinge"]),
    ],
)
def test_results_equal_those_of_two_passes(way, penalties, loss, noise):
    if noise == "mixture":
        noise = DiffusionMixture(9, noise_std=0.5)
    trainers = []
    for given in ({}, {way: True}):
        torch.manual_seed(2)
        trainer, *_ = pairs(
            Conditional(),
            generator_inputs=lambda z, _: (z,),
            logits=lambda output: output["logits"],
            seed=3,
            noise=noise,
            penalties=[copy.deepcopy(penalty) for penalty in PENALTIES[penalties]],
            loss=loss,
            **given,
        )
        trainers.append(trainer)
    for _ in range(3):
        real, y = torch.randn(8, 6, dtype=torch.float64), labels()
        stats = [trainer.step(real, y) for trainer in trainers]
        torch.testing.assert_close(
            *(torch.stack([*s]) for s in stats), rtol=1e-7, atol=1e-9, equal_nan=True
        )
    assert_close(trainers[0], trainers[1].generator, trainers[1].discriminator)
    assert_same(*(trainer.stream.state_dict() for trainer in trainers))


def test_past_samples_have_their_own_labels_in_a_joint_batch():
    discriminator, trainers = Conditional(), []
    for joint in (False, True):
        trainer, *_ = pairs(
            copy.deepcopy(discriminator),
            generator_inputs=lambda z, _: (z,),
            logits=lambda output: output["logits"],
            seed=3,
            pool=pygan.FakePool(8, seed=1),
            joint=joint,
        )
        for _ in range(3):
            trainer.step(torch.randn(8, 6, dtype=torch.float64), labels())
        trainers.append(trainer)
    assert_close(trainers[0], trainers[1].generator, trainers[1].discriminator)


def test_r3gan_step():
    """Huang et al. 2024: relativistic loss, R1 and R2, from one batch and one double backward."""
    drawn, latent = latents(6)
    trainer, G, D, g_optimizer, d_optimizer = pairs(
        latent=latent, loss="relativistic", penalties=[R1(0.5), R2(0.5)], joint=True
    )
    for z, other in zip(drawn[::2], drawn[1::2], strict=True):
        real = torch.randn(8, 6, dtype=torch.float64)
        trainer.step(real)
        x = torch.cat([real, G(z).detach()]).requires_grad_()
        logits = D(x)
        (slopes,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        d_real, d_fake = logits.chunk(2)
        penalty = 0.5 / 2 * 2 * slopes.square().sum(1).mean()
        update(d_optimizer, nn.functional.softplus(d_fake - d_real).mean() + penalty)
        update(g_optimizer, nn.functional.softplus(D(real).detach() - D(G(other))).mean())
    assert_close(trainer, G, D)


def test_stylegan3_phases():
    """Karras et al. 2021: separate backward passes of the two sides, R1 every second step, times two, with respect to
    the images before the augmentation."""
    drawn, latent = latents(8)
    trainer, G, plain, g_optimizer, d_optimizer = pairs(
        latent=latent, penalties=[R1(0.5, every=2)], separate=True, augment=torch.tanh
    )
    D = nn.Sequential(nn.Tanh(), plain)
    for number, (z, other) in enumerate(zip(drawn[::2], drawn[1::2], strict=True)):
        real = torch.randn(8, 6, dtype=torch.float64, requires_grad=True)
        stats = trainer.step(real.detach())
        d_fake, d_real = D(G(z).detach()), D(real)
        of_fake = bce(d_fake, torch.zeros_like(d_fake))
        of_real = bce(d_real, torch.ones_like(d_real))
        torch.testing.assert_close(stats.d_loss, (of_fake + of_real).detach())
        if number % 2 == 0:
            (slopes,) = torch.autograd.grad(d_real.sum(), real, create_graph=True)
            of_real = of_real + 2 * 0.5 / 2 * slopes.square().sum(1).mean()
        update(d_optimizer, of_fake, of_real)
        d_fake = D(G(other))
        update(g_optimizer, bce(d_fake, torch.ones_like(d_fake)))
    assert_close(trainer, G, plain)


def test_separate_sides_have_weights_and_label_smoothing():
    discriminator, trainers = Scales(), []
    for separate in (False, True):
        options = {"weights": [0.5, 2.0, -1.0], "label_smoothing": 0.1, "separate": separate}
        trainer, *_ = pairs(copy.deepcopy(discriminator), seed=3, **options)
        trainer.step(torch.randn(8, 6, dtype=torch.float64))
        trainers.append(trainer)
    assert_close(trainers[0], trainers[1].generator, trainers[1].discriminator)


@pytest.mark.parametrize(("way", "calls"), [("joint", [16, 8]), ("separate", [8, 8, 8])])
def test_passes_of_the_discriminator(way, calls):
    trainer = setup(penalties=[R1(1.0), R2(1.0)], noise=0.1, **{way: True})
    seen = []
    trainer.discriminator.register_forward_hook(lambda _, x, __: seen.append(len(x[0])))
    trainer.step(torch.randn(8, 6))
    assert seen == calls


def test_one_joint_pass_probes_both_sides():
    trainer = setup(penalties=[R1(1.0, sigma=0.1), R2(1.0, sigma=0.1)], joint=True)
    seen = []
    trainer.discriminator.register_forward_hook(lambda _, x, __: seen.append(len(x[0])))
    trainer.step(torch.randn(8, 6))
    assert seen == [16, 16, 8]


def test_dropout_is_the_same_in_a_joint_probe():
    """The difference between passes with different masks would be as large as the logits."""
    torch.manual_seed(0)
    D = nn.Sequential(nn.Linear(6, 64), nn.Dropout(0.5), nn.Linear(64, 1))
    G = nn.Linear(4, 6)
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.0) for net in (G, D)]
    penalties = [R1(1.0, sigma=1e-3), R2(1.0, sigma=1e-3)]
    trainer = pygan.GANTrainer(G, D, *optimizers, latent=4, penalties=penalties, joint=True)
    # Approximately the squares of the weights.
    assert trainer.step(torch.randn(256, 6)).penalty < 10


def test_separate_sides_are_freed_before_the_next():
    """For a discriminator that saves 64 times its input, only one side's activations exist at a time."""
    alive = {}

    class Saves(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.kept = Kept()
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            ctx.kept.freed()
            return grad

    class Kept:
        count = peak = 0

        def __init__(self):
            Kept.count += 1
            Kept.peak = max(Kept.peak, Kept.count)

        def freed(self):
            Kept.count -= 1

    class Saving(nn.Linear):
        def forward(self, x):
            return super().forward(Saves.apply(x) if self.weight.requires_grad else x)

    for separate in (False, True):
        trainer = setup(separate=separate)
        D = trainer.discriminator[0]
        D.__class__ = Saving
        Kept.count = Kept.peak = 0
        trainer.discriminator_step(torch.randn(8, 6).requires_grad_())
        alive[separate] = Kept.peak
    assert alive == {False: 2, True: 1}


def test_joint_labels_and_real_samples_of_another_shape():
    trainer = setup(joint=True)
    before = everything(trainer)
    with pytest.raises(
        ValueError, match=r"generator must return samples of the real ones' shape \(5"
    ):
        trainer.step(torch.randn(8, 5))
    assert_same(everything(trainer)[0][1:], before[0][1:])


def test_integers_are_not_made_floating_to_join_a_batch():
    trainer = setup(joint=True)
    with pytest.raises(
        TypeError, match=r"real must be torch.float32 like the generated .* got torch"
    ):
        trainer.step(torch.randint(256, (8, 6), dtype=torch.uint8))


def test_a_joint_discriminator_must_return_the_batch():
    trainer = setup(joint=True, logits=lambda output: output)
    trainer.discriminator.register_forward_hook(lambda _, __, out: out.reshape(4, 4))  # PacGAN's
    with pytest.raises(ValueError, match="16, with joint=True, got shape"):
        trainer.step(torch.randn(8, 6))


class Both(Penalty):
    def value(self, real, fake, probe, step):
        return (real.logits.mean() - fake.logits.mean()).square()


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (dict(joint=1), TypeError, "joint must be a bool, got int"),
        (dict(separate=None), TypeError, "separate must be a bool, got NoneType"),
        (dict(joint=True, separate=True), ValueError, "separate must be False with joint"),
        (
            dict(separate=True, loss="relativistic"),
            ValueError,
            "separate must be False for a custom loss and for a loss th",
        ),
        (
            dict(separate=True, loss=fused_losses),
            ValueError,
            "separate must be False for a custom loss and for a loss that",
        ),
        (
            dict(separate=True, penalties=LeCam(0.1)),
            ValueError,
            "both sides' logits, got True with LeCam",
        ),
        (
            dict(separate=True, penalties=Both()),
            ValueError,
            "both sides' logits, got True with Both",
        ),
    ],
)
def test_unsupported_options_are_refused_by_the_trainer(options, kind, message):
    with pytest.raises(kind, match=f"GANTrainer: .*{message}"):
        setup(**options)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(6), nn.SyncBatchNorm(6)])
def test_joint_batches_with_batch_norm_are_refused(norm):
    G, D = nn.Linear(4, 6), nn.Sequential(norm, nn.Linear(6, 1))
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
    with pytest.raises(ValueError, match="joint must be False for a discriminator with BatchNorm"):
        pygan.GANTrainer(G, D, *optimizers, latent=4, joint=True)
    norm.eval()
    pygan.GANTrainer(G, D, *optimizers, latent=4, joint=True)


def test_a_pair_of_the_noise_module_equals_two_calls():
    """Also with a standard deviation per sample."""
    for schedule in (Constant(0.5), DiffusionMixture(9, noise_std=0.5)):
        modules = [pygan.InstanceNoise(schedule, seed=3) for _ in range(3)]
        for dtypes in ((torch.float32,) * 2, (torch.float16, torch.float32)):
            real, fake = (
                torch.randn(n, 3).to(dtype) for n, dtype in zip((4, 5), dtypes, strict=True)
            )
            singles = [modules[0](real), modules[0](fake)]
            assert_same(modules[2].each(real, fake), singles)
            single = torch.cat(singles)
            pair = modules[1].pair(real, fake)
            assert_same(pair, single) if dtypes[0] == dtypes[1] else None
            assert pair.dtype == single.dtype
            assert len({noise.stream.step for noise in modules}) == 1
        for noise in modules:
            noise.eval()
        assert_same(modules[1].pair(real, fake), torch.cat([real, fake]))
        assert modules[2].each(real, fake)[0] is real


def test_noise_of_each_side_requires_grad_where_the_side_does():
    noise = pygan.InstanceNoise(Constant(0.5), seed=3)
    for flags in ([True, False], [False, True], [True, True], [False, False]):
        sides = [torch.randn(4, 3, requires_grad=flag) for flag in flags]
        assert [x.requires_grad for x in noise.each(*sides)] == flags


def unread(**reads):
    return type("Unread", (R1,), reads)(1.0)


@pytest.mark.parametrize("reads", [("real",), ["real"], {"reel"}, frozenset(), {"fake"}], ids=repr)
def test_separate_penalties_name_the_sides_that_they_read(reads):
    """Otherwise they would be skipped, or use logits that no longer exist."""
    for penalty in (unread(reads=reads), unread(reads=reads, compares="real")):
        with pytest.raises(ValueError, match=r"Unread.reads must be a set .*, \['real'\], got"):
            setup(separate=True, penalties=penalty)
    setup(penalties=unread(reads=reads))  # a side that is never computed with it


def test_replaced_objects_are_checked_again():
    """Otherwise a penalty that no side computes, and a norm over both sides, would go unnoticed."""
    trainer = setup(separate=True)
    before = everything(trainer)
    trainer.penalties = [LeCam(0.1)]
    with pytest.raises(ValueError, match="both sides' logits, got True with LeCam"):
        trainer.step(torch.randn(8, 6))
    trainer.penalties, trainer.separate, trainer.joint = [], False, True
    layers = list(trainer.discriminator)
    trainer.discriminator = nn.Sequential(nn.BatchNorm1d(6, affine=False).eval(), *layers)
    trainer.discriminator_step(torch.randn(8, 6))
    trainer.discriminator[0].train()
    for step in (trainer.step, trainer.discriminator_step):
        with pytest.raises(ValueError, match="joint must be False for a discriminator with BatchN"):
            step(torch.randn(8, 6))
    assert trainer.steps == 0 and everything(trainer)[3] == before[3] + 1


def test_norms_without_running_statistics_are_refused_in_eval_mode_too():
    D = nn.Sequential(nn.BatchNorm1d(6, track_running_stats=False).eval(), nn.Linear(6, 1))
    with pytest.raises(ValueError, match="joint must be False for a discriminator with BatchNorm"):
        pairs(D, joint=True)


def test_joint_outputs_that_are_opaque_objects_are_refused():
    """They cannot be split: each side's loss would use the logits of both."""

    class Output:
        def __init__(self, logits):
            self.logits = logits

    class Returns(nn.Linear):
        def forward(self, x):
            return Output(super().forward(x))

    trainer, *_ = pairs(Returns(6, 1), logits=lambda output: output.logits, joint=True)
    before = everything(trainer)
    with pytest.raises(
        TypeError, match=r"tuples, lists and dicts of tensors, with joint=True, got Output"
    ):
        trainer.step(torch.randn(8, 6, dtype=torch.float64))
    assert_same(everything(trainer)[0][1:], before[0][1:])
    trainer.joint = False
    trainer.step(torch.randn(8, 6, dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        (dict(separate=True), [0, 0, 0]),
        (dict(separate=True, penalties=[R1(1.0), R2(1.0, sigma=0.1)]), [0, 0, 1, 0]),
        (dict(separate=True, penalties=[R1(1.0, sigma=0.1), GradientPenalty()]), [0, 1, 0, 0, 0]),
        (dict(micro_batches=2), [0, 1, 0, 1, 0, 0]),
    ],
    ids=["separate", "R1, R2", "R1, between", "micro-batches"],
)
def test_features_are_freed_with_the_graph(options, counts):
    """For a discriminator that returns its layers, they are as large as everything that the backward pass needs."""
    features, alive = [], []

    class Returns(nn.Linear):
        def forward(self, x):
            alive.append(sum(ref() is not None for ref in features))
            hidden = torch.tanh(super().forward(x))
            features.append(weakref.ref(hidden))
            return hidden.mean(1), hidden

    trainer, *_ = pairs(Returns(6, 4), logits=lambda output: output[0], **options)
    trainer.step(torch.randn(8, 6, dtype=torch.float64))
    assert alive == counts


def test_custom_loss_may_change_the_logits_in_place():
    """The halves of a joint batch's output are no views that must not be changed."""

    class InPlace:
        def discriminator_loss(self, real, fake):
            return fused_losses.discriminator_loss(real.clamp_(-10, 10), fake.clamp_(-10, 10))

        def generator_loss(self, fake):
            return fused_losses.generator_loss(fake)

    torch.manual_seed(0)
    real, trained = torch.randn(8, 6), []
    for loss in ("non_saturating", InPlace()):
        trainer = setup(0, loss=loss, joint=True)
        trainer.step(real)
        trained.append(trainer.discriminator.state_dict())
    assert_same(*trained)


@pytest.mark.parametrize("joint", [False, True])
def test_changing_values_that_the_backward_pass_needs_is_an_error(joint):
    """Not a wrong gradient: tanh computes its derivative from its result."""

    class InPlace:
        def discriminator_loss(self, real, fake):
            return fake.mul_(2).mean() - real.mul_(2).mean()

        def generator_loss(self, fake):
            return -fake.mean()

    trainer = setup(0, loss=InPlace(), joint=joint)
    trainer.discriminator.append(nn.Tanh())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        trainer.discriminator_step(torch.randn(8, 6))
