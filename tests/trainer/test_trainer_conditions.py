"""Inputs of GANTrainer's networks other than samples, and their outputs: no latents, nested labels, tuples, dicts."""

import collections

import pytest
import torch
from helpers import raises
from helpers.recipes import Autoencoder, assert_close, latents, pairs, update
from helpers.trainer import assert_same, everything, networks, setup
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import l1_loss

import pygan


def ones(x):
    return bce(x, torch.ones_like(x))


def zeros(x):
    return bce(x, torch.zeros_like(x))


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_pix2pix(micro_batches):
    """Isola et al. 2017: a generator with only images as input, a discriminator of pairs, L1, half the discriminator's
    loss."""
    G, D = nn.Linear(5, 6), nn.Sequential(nn.Linear(11, 8), nn.Tanh(), nn.Linear(8, 1))
    trainer, G, D, g_optimizer, d_optimizer = pairs(
        D,
        G,
        latent=None,
        discriminator_inputs=lambda image, given: (torch.cat([given, image], 1),),
        weights=0.5,
        adversarial_weight=2.0,
        generator_terms=lambda step: {"l1": 100 * l1_loss(step.fake, step.real)},
        reuse_fakes=micro_batches == 1,
        micro_batches=micro_batches,
    )
    for _ in range(4):
        given, image = (torch.randn(8, n, dtype=torch.float64) for n in (5, 6))
        stats = trainer.step(image, given)
        fake = G(given)
        d_fake, d_real = (D(torch.cat([given, x], 1)) for x in (fake.detach(), image))
        update(d_optimizer, 0.5 * (zeros(d_fake) + ones(d_real)))
        l1 = 100 * l1_loss(fake, image)
        update(g_optimizer, ones(D(torch.cat([given, fake], 1))) + l1)
        torch.testing.assert_close(stats.terms["l1"], l1.detach())
    assert_close(trainer, G, D)
    assert_same(trainer.sample(8, given), trainer.generator(given).detach())


class Parts(nn.Module):
    """Takes a sample or latent and a tree of conditions, and stores the tree."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.layer, self.table, self.seen = nn.Linear(n_in, n_out), nn.Embedding(5, n_out), []

    def forward(self, x, labels):
        self.seen.append(labels)
        (shift, scale), index = labels["affine"], labels["class"]
        return (self.layer(x) + self.table(index)) * scale + shift


def tree(n):
    affine = (torch.randn(n, 1).double(), torch.rand(n, 1).double())
    return {"class": torch.randint(5, (n,)), "affine": affine}


def rows(labels, part):
    shift, scale = labels["affine"]
    return {"class": labels["class"][part], "affine": (shift[part], scale[part])}


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_nested_labels_reach_both_networks(micro_batches):
    trainer, *_ = pairs(Parts(6, 1), Parts(4, 6), micro_batches=micro_batches, d_steps=2)
    reals = [torch.randn(7, 6, dtype=torch.float64) for _ in range(2)]
    given = [tree(7), tree(7)]
    trainer.step(reals, given)
    parts = [slice(0, 7)] if micro_batches == 1 else [slice(0, 3), slice(3, 5), slice(5, 7)]
    expected = [rows(given[i], part) for i in (0, 1, 1) for part in parts]
    assert_same(trainer.generator.seen, expected)
    assert trainer.sample(7, given[0]).shape == (7, 6)
    assert_same(trainer.generator.seen[-1], given[0])


def test_labels_for_only_one_network():
    """By setting the arguments of the other network."""
    D = networks()[1]
    trainer, *_ = pairs(D, Parts(4, 6), discriminator_inputs=lambda x, labels: (x,))
    trainer.step(torch.randn(8, 6, dtype=torch.float64), tree(8))
    G = networks()[0]
    trainer, *_ = pairs(Parts(6, 1), G, generator_inputs=lambda z, labels: (z,))
    trainer.step(torch.randn(8, 6, dtype=torch.float64), tree(8))


def test_an_autoencoder_whose_input_is_the_real_batch():
    trainer, G, D, g_optimizer, d_optimizer = pairs(
        None,
        Autoencoder(),
        latent=None,
        discriminator_inputs=lambda x, _: (x,),
        generated=lambda output: output[0],
        generator_terms=lambda step: {
            "rec": l1_loss(step.fake, step.real),
            "codebook": step.output[1],
        },
        reuse_fakes=True,
    )
    for _ in range(4):
        real = torch.randn(8, 6, dtype=torch.float64)
        trainer.step(real, real)
        image, codebook = G(real)
        update(d_optimizer, zeros(D(image.detach())) + ones(D(real)))
        update(g_optimizer, ones(D(image)) + l1_loss(image, real) + codebook)
    assert_close(trainer, G, D)


@pytest.mark.parametrize("reuse_fakes", [False, True])
def test_a_generator_of_tuples(reuse_fakes):
    class Tuple(nn.Linear):
        def forward(self, z):
            return super().forward(z), z

    drawn, latent = latents(2)
    trainer, *_ = pairs(
        None, Tuple(4, 6), latent=latent, generated=lambda out: out[0], reuse_fakes=reuse_fakes
    )
    seen = []
    trainer.generator_terms = lambda step: seen.append(step.output) or {}
    trainer.step(torch.randn(8, 6, dtype=torch.float64))
    assert_same(seen[0][1], drawn[0 if reuse_fakes else 1])
    assert trainer.fake.shape == trainer.sample(3, latent=drawn[0][:3]).repeat(3, 1)[:8].shape


REAL = torch.randn(8, 6)


@pytest.mark.parametrize(
    ("options", "use", "kind", "message"),
    [
        (
            {},
            lambda t: t.step(REAL, [REAL[:, 0]]),
            TypeError,
            r"labels must be a tensor, or a tuple or",
        ),
        (
            {},
            lambda t: t.step(REAL, {"a": REAL[:3]}),
            ValueError,
            "labels must have a first dimension of 8",
        ),
        ({}, lambda t: t.step(REAL, (REAL, "b")), TypeError, "labels must be a tensor, got str"),
        ({}, lambda t: t.step([REAL], REAL), TypeError, "labels must be a sequence like real"),
        (
            {},
            lambda t: t.step([REAL], [REAL, REAL]),
            ValueError,
            "labels for each of the 1 batches, got 2",
        ),
        (
            {},
            lambda t: t.sample(3, {"a": REAL}),
            ValueError,
            "labels must have a first dimension of 3",
        ),
        (
            dict(latent=None),
            lambda t: t.step(REAL),
            ValueError,
            "labels must be given for latent=None",
        ),
        (
            dict(latent=None),
            lambda t: t.generator_step(8),
            ValueError,
            "generator_step: labels must be",
        ),
        (dict(latent=None), lambda t: t.sample(8), ValueError, "sample: labels must be given"),
        (
            dict(latent=None),
            lambda t: t.sample(8, REAL[:, :4], latent=REAL[:, :4]),
            ValueError,
            "latent must be None for latent=None",
        ),
    ],
)
def test_wrong_labels_are_refused_without_changes(options, use, kind, message):
    trainer = setup(**options)
    before = everything(trainer)
    with pytest.raises(kind, match=f"GANTrainer.*{message}"):
        use(trainer)
    assert_same(everything(trainer), before)


@pytest.mark.parametrize(
    ("generated", "kind", "message"),
    [
        (lambda out: (out,), TypeError, "generated must return the samples, a tensor, got a tuple"),
        (
            lambda out: out[:2],
            ValueError,
            "generated must return one sample for each of the batch's 8",
        ),
    ],
)
def test_generated_must_return_samples(generated, kind, message):
    with pytest.raises(kind, match=message):
        setup(generated=generated).step(REAL)
    with pytest.raises(TypeError, match="generated must be a callable or None, got str"):
        setup(generated="image")


def test_selecting_objects_may_have_a_state():
    class Counts(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.function = function
            self.register_buffer("calls", torch.tensor(0))

        def forward(self, *given):
            self.calls += 1
            return self.function(*given)

    def options():
        return {
            "generated": Counts(lambda out: out),
            "discriminator_inputs": Counts(lambda x, _: (x,)),
            "adversarial_weight": Counts(lambda step: torch.tensor(0.5)),
        }

    trainer, other = (setup(**options()) for _ in range(2))
    trainer.step(REAL)
    other.load_state_dict(trainer.state_dict())
    assert [getattr(other, name).calls.item() for name in options()] == [2, 3, 1]


def test_fit_translates_images(tmp_path):
    """The labels are images, from which the sample grid is generated too."""
    G = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Tanh())
    D = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Linear(36, 1))
    images = torch.rand(16, 1, 8, 8) * 2 - 1
    optimizers = {
        "g_optimizer": torch.optim.Adam(G.parameters()),
        "d_optimizer": torch.optim.Adam(D.parameters()),
    }
    options = {"latent": None, "steps": 4, "batch_size": 4, "sample_every": 2, "tensorboard": False}
    options["discriminator_inputs"] = lambda x, _: (x,)
    result = pygan.fit(G, D, (images, images.neg()), **optimizers, out=tmp_path, **options)
    assert result.steps == 4
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "reals.png",
        "samples-00000000.png",
        "samples-00000002.png",
        "samples-00000004.png",
    ]


@pytest.mark.parametrize("name", ["generator_inputs", "discriminator_inputs"])
@pytest.mark.parametrize("n", [1, 8])
def test_inputs_that_are_not_tuples_are_refused(name, n):
    """A tensor would be unpacked into its samples, and for a batch of one the discriminator would get the sample."""
    trainer = setup(**{name: lambda x, labels: x})
    trainer.generator[1].eval()  # which cannot train with a batch of one
    before = everything(trainer)
    with pytest.raises(TypeError, match=f"{name} must return a tuple .* got a tensor of shape"):
        trainer.discriminator_step(REAL[:n])
    assert_same(everything(trainer)[0][1:], before[0][1:])


def test_labels_in_a_defaultdict():
    given = collections.defaultdict(list, tree(7))
    trainer, *_ = pairs(Parts(6, 1), Parts(4, 6), micro_batches=2, joint=True)
    trainer.step(torch.randn(7, 6, dtype=torch.float64), given)
    assert_same(trainer.generator.seen[0], rows(given, slice(4)))


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ({}, 0, "generator must accept the arguments (latents, labels), got Sequential, whose"),
        (
            {"generator_inputs": lambda z, labels: (z,)},
            0,
            "discriminator must accept the arguments (real and generated samples, labels), got Seq",
        ),
        (
            {"G": Parts(4, 6)},
            None,
            "generator must accept the arguments (latents), got Parts, whose",
        ),
    ],
)
def test_networks_that_do_not_take_the_labels(options, given, message):
    trainer, *_ = pairs(**options)
    labels = None if given is None else torch.zeros(8)
    with raises(TypeError, f"GANTrainer: {message}", "forward does not; choose others with "):
        trainer.step(torch.randn(8, 6, dtype=torch.float64), labels)


def test_a_type_error_within_a_network_is_not_explained():
    def forward(x):
        raise TypeError("mine")

    trainer, *_ = pairs()
    trainer.discriminator.forward = forward
    with pytest.raises(TypeError, match=r"^mine$"):
        trainer.step(torch.randn(8, 6, dtype=torch.float64))


@pytest.mark.parametrize("penalties", [[], [pygan.penalties.R1(1.0)]], ids=["plain", "R1"])
def test_samples_labels_and_latents_made_in_inference_mode(penalties):
    """Autograd does not save such tensors for the backward pass."""

    def trained(mode):
        torch.manual_seed(0)
        trainer, *_ = pairs(
            nn.Linear(12, 1),
            Parts(4, 6),
            discriminator_inputs=lambda x, labels: (torch.cat([x, labels["affine"][0]], 1),),
            latent=mode()(lambda n: torch.ones(n, 4, dtype=torch.float64)),
            penalties=penalties,
        )
        with mode():
            real = torch.arange(48.0, dtype=torch.float64).view(8, 6)
            labels = {"affine": (real.sin(), real.cos()), "class": torch.arange(8) % 5}
        trainer.step(real, labels)
        return trainer.generator.state_dict()

    assert_same(trained(torch.inference_mode), trained(torch.no_grad))
