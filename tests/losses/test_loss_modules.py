"""The losses as modules: same results as the functions, and options are checked at construction."""

import copy
import pickle

import pytest
import torch
from helpers import raises
from torch.nn.functional import binary_cross_entropy_with_logits

import pygan
from pygan import DiscriminatorLoss, GANLoss, GeneratorLoss
from pygan.fused_losses import (
    LOSSES,
    compares,
    discriminator_loss,
    fake_loss,
    generator_loss,
    real_loss,
)

ALONE = [loss for loss in LOSSES if not compares(loss)]


def logits(shapes=((6, 2), (9,))):
    draw = torch.Generator().manual_seed(0)
    real, fake = ([torch.randn(s, generator=draw).requires_grad_() for s in shapes] for _ in "rf")
    return real, fake


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reduction": "sum", "weights": [0.5, 2.0]},
        {"return_stats": True, "weights": 2},
        {"return_parts": True},
        {"return_stats": True, "return_parts": True},
        {"reduction": "none"},
    ],
)
@pytest.mark.parametrize("loss", LOSSES)
def test_modules_return_what_the_functions_return(loss, options):
    nan = {"equal_nan": True}  # statistics that the loss does not have
    real, fake = logits()
    got = DiscriminatorLoss(loss, **options)(real, fake)
    torch.testing.assert_close(got, discriminator_loss(real, fake, loss=loss, **options), **nan)
    both = {"real_logits": real} if compares(loss) else {}
    got = GeneratorLoss(loss, **options)(fake, **both)
    torch.testing.assert_close(got, generator_loss(fake, loss=loss, **both, **options), **nan)


def test_targets_and_detached_means_reach_the_functions():
    (real, _), (fake, _) = logits()
    options = {"loss": "least_squares", "real_target": 0.5, "fake_target": -0.5}
    assert DiscriminatorLoss(**options)(real, fake) == discriminator_loss(real, fake, **options)
    options = {"loss": "non_saturating", "label_smoothing": 0.25}
    assert DiscriminatorLoss(**options)(real, fake) == discriminator_loss(real, fake, **options)
    options = {"loss": "relativistic_average", "detach_means": True}
    for call in (DiscriminatorLoss(**options), lambda *x: discriminator_loss(*x, **options)):
        gradients = torch.autograd.grad(call(real, fake), [real, fake])
        assert gradients[0].count_nonzero() == real.numel()
    torch.testing.assert_close(
        gradients, torch.autograd.grad(DiscriminatorLoss(**options)(real, fake), [real, fake])
    )
    got = GeneratorLoss("least_squares", target=0.75)(fake)
    assert got == generator_loss(fake, loss="least_squares", target=0.75)


@pytest.mark.parametrize("loss", ALONE)
def test_gan_loss_computes_one_side_per_call(loss):
    real, fake = logits()
    criterion = GANLoss(loss, weights=[2, 1], generator_weights=[0.1, 0.2])
    assert criterion(real, True) == real_loss(real, loss=loss, weights=[2, 1])
    assert criterion(fake, False) == fake_loss(fake, loss=loss, weights=[2, 1])
    got = criterion(fake, True, for_discriminator=False)
    assert got == generator_loss(fake, loss=loss, weights=[0.1, 0.2])
    # The weights of both sides also apply to the generator, unless it has its own.
    assert GANLoss(loss, weights=3)(fake, True, False) == generator_loss(fake, loss=loss, weights=3)


def test_gan_loss_has_a_target_for_each_side_and_the_generator():
    (x, _), _ = logits()
    criterion = GANLoss("least_squares", real_target=0.9, fake_target=0.1, generator_target=0.8)
    for got, target in (
        (criterion(x, True), 0.9),
        (criterion(x, False), 0.1),
        (criterion(x, True, False), 0.8),
    ):
        torch.testing.assert_close(got, 0.5 * (x - target).square().mean())


@pytest.mark.parametrize("loss", ["non_saturating", "least_squares", "wasserstein"])
def test_gan_loss_with_a_real_target_is_the_generators_loss(loss):
    """As called by codebases without a flag for the generator."""
    _, (fake, _) = logits()
    criterion = GANLoss(loss)
    assert criterion(fake, True) == criterion(fake, True, for_discriminator=False)


@pytest.mark.parametrize(
    ("criterion", "plain"),
    [
        (GANLoss("least_squares", weights=2), lambda x, real: (x - real).square().mean()),
        (
            GANLoss("non_saturating"),
            lambda x, real: binary_cross_entropy_with_logits(x, torch.full_like(x, real)),
        ),
    ],
    ids=["lsgan", "vanilla"],
)
def test_gan_loss_can_replace_cyclegans(criterion, plain):
    (real, _), (fake, _) = logits()
    torch.testing.assert_close(criterion(real, True), plain(real, 1.0))
    torch.testing.assert_close(criterion(fake, False), plain(fake, 0.0))
    torch.testing.assert_close(criterion(fake, True), plain(fake, 1.0))


def test_gan_loss_returns_terms():
    real, fake = logits()
    criterion = GANLoss("hinge", reduction="none")
    torch.testing.assert_close(criterion(real, True), [(1 - x).relu() for x in real])
    torch.testing.assert_close(criterion(fake[0], True, False), -fake[0])


X = torch.zeros(3)
BAD_OPTIONS = [
    (lambda: DiscriminatorLoss("hing"), ValueError, "pygan.fused_losses.discriminator_loss: loss must be one of"),
    (lambda: DiscriminatorLoss("hinge", label_smoothing=0.1), ValueError, "pygan.fused_losses.discriminator_loss: lab"),
    (lambda: DiscriminatorLoss(reduction="all"), ValueError, "pygan.fused_losses.discriminator_loss: reduction must"),
    (lambda: DiscriminatorLoss(weights=[1, "x"]), TypeError, "pygan.fused_losses.discriminator_loss: weights[1] must"),
    (lambda: DiscriminatorLoss(weights=X[0]), TypeError, "pygan.DiscriminatorLoss: weights must not be a tensor"),
    (lambda: DiscriminatorLoss(detach_means=True), ValueError, "pygan.fused_losses.discriminator_loss: detach_means"),
    (lambda: GeneratorLoss("hing"), ValueError, "pygan.fused_losses: loss must be one of"),
    (lambda: GeneratorLoss(weights=float("nan")), ValueError, "pygan.fused_losses.generator_loss: weights must be"),
    (lambda: GeneratorLoss(target=X), TypeError, "pygan.GeneratorLoss: target must not be a tensor, got a tensor"),
    (lambda: GeneratorLoss("hinge", target=1), ValueError, "pygan.fused_losses.generator_loss: target must"),
    (lambda: GANLoss("relativistic"), ValueError, "pygan.fused_losses.real_loss: loss must not compare real with fake"),
    (lambda: GANLoss(fake_target=2), ValueError, "pygan.fused_losses.fake_loss: target must"),
    (lambda: GANLoss("wasserstein", generator_target=1), ValueError, "pygan.fused_losses.generator_loss: target must"),
    (lambda: GANLoss(generator_weights="1"), TypeError, "pygan.fused_losses.generator_loss: weights must be"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "message"), BAD_OPTIONS)
def test_bad_options_are_refused_by_the_constructor(make, error, message):
    with raises(error, message):
        make()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: GANLoss()(X, 1), TypeError, "pygan.GANLoss: target_is_real must be a bool, got int"),
        (lambda: GANLoss()(X, X), TypeError, "pygan.GANLoss: target_is_real must be a bool, got a tensor"),
        (lambda: GANLoss()(X, True, None), TypeError, "pygan.GANLoss: for_discriminator must be a bool"),
        (lambda: GANLoss()(X, False, False), ValueError, "pygan.GANLoss: target_is_real must be True for the"),
        (lambda: GANLoss()([[X, X]], True), TypeError, "pygan.fused_losses.real_loss: real_logits[0] must be a tensor"),
        (lambda: GANLoss(weights=[1, 2])([X], True), ValueError, "pygan.fused_losses.real_loss: weights must hold"),
        (lambda: GeneratorLoss()(X, real_logits=X), ValueError, "pygan.fused_losses.generator_loss: real_logits must"),
        (lambda: DiscriminatorLoss()(X[:0], X), ValueError, "pygan.fused_losses.discriminator_loss: real_logits must"),
    ],
)  # fmt: skip
def test_bad_logits_are_refused_by_the_call(call, error, message):
    with raises(error, message):
        call()


def test_repr_shows_non_default_options():
    assert repr(DiscriminatorLoss()) == "DiscriminatorLoss(loss='non_saturating')"
    assert repr(DiscriminatorLoss("hinge", weights=[1, 0.5], return_stats=True)) == (
        "DiscriminatorLoss(loss='hinge', weights=[1, 0.5], return_stats=True)"
    )
    assert repr(GeneratorLoss("wasserstein", weights=0)) == (
        "GeneratorLoss(loss='wasserstein', weights=0)"
    )
    assert repr(GANLoss("hinge", generator_weights=0.1)) == (
        "GANLoss(loss='hinge', generator_weights=0.1)"
    )


@pytest.mark.parametrize("module", [DiscriminatorLoss("hinge", weights=2), GANLoss("hinge")])
def test_copying_pickling_and_state_dicts(module):
    (real, _), (fake, _) = logits()
    second = fake if isinstance(module, DiscriminatorLoss) else True
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), module.half()):
        assert other(real, second) == module(real, second)
    assert module.state_dict() == {} and not list(module.parameters())


def test_options_are_checked_on_the_cpu_for_any_default_device():
    with torch.device("meta"):
        DiscriminatorLoss("hinge")


def test_modules_in_a_compiled_function(fresh):
    (real, _), (fake, _) = logits()
    d_criterion, criterion = DiscriminatorLoss("hinge", return_stats=True), GANLoss("hinge")

    def both(real, fake):
        loss, stats = d_criterion(real, fake)
        return loss + criterion(fake, True, for_discriminator=False), stats

    compiled = torch.compile(both, backend="aot_eager")
    torch.testing.assert_close(compiled(real, fake), both(real, fake), equal_nan=True)


def test_torch_jit_script_is_refused_with_a_reason():
    with raises(NotImplementedError, "pygan.GANLoss: torch.jit.script is not implemented"):
        torch.jit.script(GANLoss())


def test_gan_loss_is_refused_by_the_trainer():
    """It has no discriminator_loss, which the trainer needs."""
    G, D = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
    with raises(ValueError, "GANTrainer: loss must be one of"):
        pygan.GANTrainer(G, D, *optimizers, latent=2, loss=GANLoss())
