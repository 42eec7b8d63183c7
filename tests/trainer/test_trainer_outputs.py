"""Outputs of GANTrainer's networks: logits and other tensors, scales, samples; and refused outputs."""

import copy

import pytest
import torch
from helpers import raises
from helpers.trainer import assert_same, everything, networks
from torch import nn
from torch.nn.functional import softplus

import pygan
from pygan import fused_losses
from pygan.penalties import R1, R2, GradientPenalty


class WithClasses(nn.Module):
    """Returns the logits and other tensors in the given form, by default only the logits."""

    def __init__(self, form=lambda logits, classes: logits):
        super().__init__()
        torch.manual_seed(3)
        self.body, self.head, self.classes = nn.Linear(6, 8), nn.Linear(8, 1), nn.Linear(8, 5)
        self.form = form

    def forward(self, x):
        h = self.body(x).tanh()
        return self.form(self.head(h), self.classes(h))


def trainer_of(D, G=None, **options):
    G = networks()[0] if G is None else G
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
    return pygan.GANTrainer(G, D, *optimizers, **{"latent": 4, "seed": 0, **options})


def scalar(logits, classes):
    return [logits, classes.sum()]


FORMS = {
    "tuple": (lambda logits, classes: (logits, classes), lambda out: out[0]),
    "tuple with a scalar": (lambda logits, classes: (logits, classes.mean()), lambda out: out[0]),
    "list": (lambda logits, classes: [classes, logits], lambda out: out[1]),
    "dict": (lambda logits, classes: {"logits": logits, "of": classes}, lambda out: out["logits"]),
    "scales": (lambda logits, classes: ([logits], classes), lambda out: out[0]),
}
PENALTIES = [R1(1.0), R2(1.0), R1(1.0, sigma=0.1), GradientPenalty()]


@pytest.mark.parametrize("loss", ["non_saturating", "relativistic"])
@pytest.mark.parametrize("form", FORMS)
def test_logits_selects_the_trained_output(form, loss):
    make, pick = FORMS[form]
    options = {"loss": loss, "penalties": PENALTIES, "micro_batches": 2}
    picked = trainer_of(WithClasses(make), logits=pick, **options)
    alone = trainer_of(WithClasses(), **options)
    for _ in range(3):
        real = torch.randn(8, 6)
        torch.testing.assert_close(picked.step(real), alone.step(real), equal_nan=True)
    torch.testing.assert_close(
        dict(picked.discriminator.state_dict()), dict(alone.discriminator.state_dict())
    )


class First:
    """A custom loss that gets the pair returned by the discriminator."""

    def discriminator_loss(self, real, fake):
        (real_logits, _), (fake_logits, _) = real, fake
        return fused_losses.discriminator_loss(real_logits, fake_logits)

    def generator_loss(self, fake):
        return fused_losses.generator_loss(fake[0])


def test_a_custom_loss_gets_all_outputs_and_penalties_the_logits():
    """R1 over classes too was .382 instead of .0062 for only the logits."""
    make, pick = FORMS["tuple"]
    own = trainer_of(WithClasses(make), logits=pick, loss=First(), penalties=PENALTIES)
    alone = trainer_of(WithClasses(), penalties=PENALTIES)
    real = torch.randn(8, 6)
    stats, want = own.step(real), alone.step(real)
    torch.testing.assert_close(
        stats, want._replace(jsd_bound=stats.jsd_bound), equal_nan=True, rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(
        own.discriminator.head.state_dict(), alone.discriminator.head.state_dict()
    )


@pytest.mark.parametrize(
    ("form", "pick", "error", "message"),
    [
        (lambda a, b: (a, b), None, TypeError, "discriminator must return logits, a tensor or"),
        (lambda a, b: {"a": a}, None, TypeError, "discriminator must return logits, a tensor or"),
        (lambda a, b: [], None, TypeError, "discriminator must return logits, a tensor or"),
        (scalar, None, ValueError, "discriminator must return logits whose first dimension is the"),
        (lambda a, b: b.mean(), None, ValueError, "discriminator must return logits whose first"),
        (lambda a, b: b.view(-1), None, ValueError, "discriminator must return logits whose first"),
        (lambda a, b: (a, b), lambda out: out, TypeError, "logits must return logits, a tensor or"),
    ],
)
@pytest.mark.parametrize("loss", ["non_saturating", First()])
def test_invalid_logits_are_refused_before_training(form, pick, error, message, loss):
    trainer = trainer_of(WithClasses(form), logits=pick, loss=loss)
    before = everything(trainer)
    pieces = ["GANTrainer: " + message, "got"]
    pieces += [] if pick else ["pass logits=, a callable that selects them"]
    for use in (lambda: trainer.step(torch.randn(8, 6)), lambda: trainer.generator_step(8)):
        with raises(error, *pieces):
            use()
    after = everything(trainer)
    assert_same(after[0][1:], before[0][1:])  # BatchNorm of the generator has seen samples
    assert_same((after[1], *after[4:]), (before[1], *before[4:]))


class Packs(nn.Module):
    """PacGAN's discriminator: one logit for four samples."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x):
        return self.layers(x.reshape(-1, 24))


@pytest.mark.parametrize("penalty", [None, R1(1.0), GradientPenalty()])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_logits_of_packs_of_samples_equal_a_plain_loop(penalty, micro_batches):
    G, D = nn.Linear(4, 6).double(), Packs().double()
    G2, D2 = copy.deepcopy((G, D))
    penalties = [] if penalty is None else penalty
    options = {"logits": lambda out: out, "penalties": penalties, "micro_batches": micro_batches}
    trainer = trainer_of(D, G, **options)
    g_optimizer, d_optimizer = (torch.optim.SGD(net.parameters(), lr=0.1) for net in (G2, D2))
    stream = pygan.NoiseStream(trainer.stream.seed)

    def normals(*shape):
        zeros = torch.zeros(*shape, dtype=torch.float64)
        return pygan.instance_noise(zeros, 1.0, stream=stream)

    def shares():
        z = [torch.zeros(16 // micro_batches, 1) for _ in range(micro_batches)]
        return torch.special.ndtr(
            torch.cat([pygan.instance_noise(x, 1.0, stream=stream) for x in z])
        )

    for _ in range(3):
        real = torch.randn(16, 6, dtype=torch.float64)
        z, z_after = normals(16, 4), normals(16, 4)
        fake = G2(z).detach()
        loss = softplus(-D2(real)).mean() + softplus(D2(fake)).mean()
        value = torch.zeros(())
        if penalty is not None:
            x = real
            if isinstance(penalty, GradientPenalty):
                x = fake.lerp(real, shares().double())
            x = x.requires_grad_()
            (gradient,) = torch.autograd.grad(D2(x).sum(), x, create_graph=True)
            value = 0.5 * gradient.square().sum(1).mean()
            if isinstance(penalty, GradientPenalty):
                value = 10 * (gradient.norm(dim=1) - 1).square().mean()
        d_optimizer.zero_grad()
        (loss + value).backward()
        d_optimizer.step()
        g_loss = softplus(-D2(G2(z_after))).mean()
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        stats = trainer.step(real.detach())
        want = torch.stack([loss.detach(), g_loss.detach(), value.detach().double()])
        got = torch.stack([stats.d_loss, stats.g_loss, stats.penalty.double()])
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(D.state_dict(), D2.state_dict(), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(G.state_dict(), G2.state_dict(), rtol=1e-6, atol=1e-8)


def test_logits_of_packs_are_not_compared_per_sample():
    G = nn.Linear(4, 6)
    message = "discriminator must return logits whose first dimension is the batch's, 8, got shape"
    with raises(ValueError, "GANTrainer: " + message, "lambda output: output if a logit covers"):
        trainer_of(Packs(), G).step(torch.randn(8, 6))
    for penalty in (R1(1.0, sigma=0.1), R2(1.0, sigma=0.1, every=2)):
        trainer = trainer_of(Packs(), G, logits=lambda out: out, penalties=penalty)
        before = everything(trainer)[0]
        message = "logits must return logits whose first dimension is the batch's, 8, if a penalty"
        with raises(ValueError, "GANTrainer: " + message, "has sigma, got shape (2, 1)"):
            trainer.step(torch.randn(8, 6))
        assert_same(everything(trainer)[0], before)


def test_a_single_sample_may_lack_the_batch_dimension():
    D = WithClasses(lambda logits, classes: logits.squeeze())
    G = nn.Linear(4, 6)
    trainer = trainer_of(D, G, penalties=[R1(1.0), R2(1.0, sigma=0.1)])
    for n in (3, 1):
        assert torch.stack(trainer.step(torch.randn(n, 6))).isfinite().all()


class Returns(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.layer, self.form = nn.Linear(4, 6), form

    def forward(self, z):
        return self.form(self.layer(z))


@pytest.mark.parametrize(
    ("form", "error", "got"),
    [
        (
            lambda x: (x, x),
            TypeError,
            "got a tuple of length 2; pass generated=, a callable that selects them",
        ),
        (
            lambda x: {"image": x},
            TypeError,
            "got dict; pass generated=, a callable that selects them",
        ),
        (lambda x: x[1:], ValueError, "got shape (7, 6)"),
        (lambda x: x.mean(), ValueError, "got shape ()"),
    ],
)
def test_generator_outputs_that_are_not_a_batch_are_refused(form, error, got):
    trainer = trainer_of(networks()[1], Returns(form))
    before = everything(trainer)
    for use in (
        lambda: trainer.step(torch.randn(8, 6)),
        lambda: trainer.generator_step(8),
        lambda: trainer.sample(8),
    ):
        with raises(error, "GANTrainer: generator must return ", got):
            use()
    after = everything(trainer)
    assert_same((after[0], after[1], *after[4:]), (before[0], before[1], *before[4:]))


def convolutional():
    torch.manual_seed(0)
    G = nn.Sequential(nn.ConvTranspose2d(5, 1, 4), nn.Tanh())
    return G, nn.Sequential(nn.Flatten(), nn.Linear(16, 1))


def test_latents_with_a_shape_are_normals_of_the_stream():
    G, D = convolutional()
    z = []
    G.register_forward_pre_hook(lambda _, x: z.append(x[0]))
    trainer = trainer_of(D, G, latent=(5, 1, 1))
    trainer.step(torch.randn(8, 1, 4, 4))
    assert trainer.sample(3).shape == (3, 1, 4, 4)
    stream = pygan.NoiseStream(trainer.stream.seed)
    for got, n in zip(z, (8, 8, 3), strict=True):
        assert_same(got, pygan.instance_noise(torch.zeros(n, 5, 1, 1), 1.0, stream=stream))


@pytest.mark.parametrize("options", [{}, dict(micro_batches=2), dict(reuse_fakes=True)], ids=str)
def test_a_generator_may_change_its_latents_in_place(options):
    class Shifted(nn.Linear):
        def __init__(self, in_place):
            super().__init__(4, 6)
            self.shift, self.in_place = nn.Parameter(torch.ones(4)), in_place

        def forward(self, latent):
            latent = latent.add_(self.shift) if self.in_place else latent + self.shift
            return super().forward(latent)

    torch.manual_seed(0)
    trained, real = [], torch.randn(8, 6)
    for in_place in (False, True):
        torch.manual_seed(1)
        nets = Shifted(in_place), nn.Linear(6, 1)
        optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in nets]
        pygan.GANTrainer(*nets, *optimizers, latent=4, seed=0, **options).step(real)
        trained.append(nets[0].state_dict())
    assert_same(*trained)


def test_flat_latents_for_a_convolution_name_the_shape():
    G, D = convolutional()
    message = (
        "GANTrainer: latent must be a shape such as (5, 1, 1) for a generator that begins with"
    )
    for use in (lambda t: t.step(torch.randn(8, 1, 4, 4)), lambda t: t.sample(2)):
        with raises(ValueError, message, "ConvTranspose2d, got 5 ("):
            use(trainer_of(D, G, latent=5))
    one_d = nn.Sequential(nn.ConvTranspose1d(5, 1, 4))
    with raises(ValueError, "GANTrainer: latent must be a shape such as (5, 1) for a generator"):
        trainer_of(D, one_d, latent=5).sample(2)
    normed = nn.Sequential(nn.BatchNorm2d(5), nn.ConvTranspose2d(5, 1, 4))
    with raises(ValueError, "GANTrainer: latent must be a shape such as (5, 1, 1) for a generator"):
        trainer_of(D, normed, latent=5).step(torch.randn(8, 1, 4, 4))
    # Other errors come from the network itself.
    G = nn.Sequential(nn.ConvTranspose2d(5, 1, 4), nn.Linear(9, 9))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        trainer_of(D, G, latent=(5, 1, 1)).sample(2)


@pytest.mark.parametrize("latent", [(), (4, 0), (4, 1.5), [True], "4", -1, True])
def test_invalid_latent_shapes_are_refused(latent):
    G, D = networks()
    with raises(
        ValueError,
        "GANTrainer: latent must be a positive int, a shape, a callable or None, got",
    ):
        trainer_of(D, G, latent=latent)


def test_generated_images_of_another_shape_are_refused():
    """A fully convolutional discriminator accepts any size, and one that flattens accepts any order of the
    dimensions."""
    G = convolutional()[0]
    pooled = nn.Sequential(nn.Conv2d(1, 1, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    flat = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    for D, shape in ((pooled, (1, 8, 8)), (flat, (4, 4, 1))):
        trainer = trainer_of(D, copy.deepcopy(G), latent=(5, 1, 1))
        before = copy.deepcopy(D.state_dict())
        with raises(
            ValueError,
            f"GANTrainer: generator must return samples of the real ones' shape {shape}, got",
        ):
            trainer.step(torch.randn(8, *shape))
        assert_same(D.state_dict(), before)
    real = torch.randn(8, 16)  # accepted by a discriminator that flattens
    trainer_of(flat, G, latent=(5, 1, 1), penalties=[R1(1.0), R2(1.0)]).step(real)
    with raises(ValueError, "GradientPenalty: real and generated samples must have the same shape"):
        trainer_of(flat, G, latent=(5, 1, 1), penalties=GradientPenalty()).step(real)


def test_fit_passes_logits_and_a_latent_shape_on(tmp_path):
    pytest.importorskip("accelerate")
    G, body = convolutional()
    D = Both(body)
    optimizers = {
        name: torch.optim.SGD(net.parameters(), lr=0.1)
        for name, net in (("g_optimizer", G), ("d_optimizer", D))
    }
    options = dict(steps=2, batch_size=4, out=tmp_path, seed=0, samples=4, tensorboard=False)
    data = torch.randn(8, 1, 4, 4)
    result = pygan.fit(
        G, D, data, latent=(5, 1, 1), logits=lambda out: out[0], **optimizers, **options
    )
    assert result.steps == 2
    assert result.trainer.sample(3).shape == (3, 1, 4, 4)
    assert (tmp_path / "samples-00000002.png").exists()


class Both(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x), x.mean()
