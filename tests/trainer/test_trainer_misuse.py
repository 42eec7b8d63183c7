"""Misuse of GANTrainer: a clear error, and nothing has been trained."""

import pytest
import torch
from helpers import raises
from helpers.trainer import assert_same, everything, networks, setup
from torch import nn

import pygan
from pygan import fused_losses
from pygan.penalties import R1, R2, GradientPenalty
from pygan.schedules import Constant


def optimizer_of(*modules):
    return torch.optim.SGD([p for module in modules for p in module.parameters()], lr=0.1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(d_steps=0), ValueError, "d_steps must be an int of at least 1, got 0"),
        (dict(d_steps=1.5), ValueError, "d_steps must be an int of at least 1, got 1.5"),
        (dict(latent=0), ValueError, "latent must be a positive int, a shape, .*, got 0"),
        (
            dict(loss="hing"),
            ValueError,
            "loss must be one of non_saturating, minimax.*, got 'hing'",
        ),
        (dict(label_smoothing=-1), ValueError, "label_smoothing must be from 0 to 1, got -1"),
        (
            dict(noise="0.1"),
            TypeError,
            "noise must be a pygan.InstanceNoise, a schedule, .* got str",
        ),
        (dict(noise=-0.1), ValueError, ".*must be a finite non-negative number, got -0.1"),
        (dict(loss=torch), ValueError, "loss must be one of .*, or an object with the methods"),
        (dict(loss=fused_losses, label_smoothing=0.1), ValueError, "label_smoothing must be 0 for"),
        (dict(penalties=[1.0]), TypeError, r"penalties must be a pygan.penalties .* got \[1.0\]"),
        (dict(micro_batches=0), ValueError, "micro_batches must be an int of at least 1, got 0"),
        (dict(max_grad_norm=0.0), ValueError, "max_grad_norm must be .* positive and finite"),
        (dict(ema=nn.Linear(1, 1)), TypeError, "ema must be a number, an AveragedModel or None"),
        (dict(ema=1.0), ValueError, "ema must be a number, between 0 and 1, or None, got 1.0"),
        (dict(seed=-1), ValueError, "seed must be an int from 0 to 2.*, got -1"),
        (dict(augment=3), TypeError, "augment must be a callable or None, got int"),
        (dict(scaler=2.0**16), TypeError, "scaler must be a torch.amp.GradScaler or None, got flo"),
        (dict(logits=0), TypeError, "logits must be a callable or None, got int"),
        (dict(generator_inputs=3), TypeError, "generator_inputs must be a callable or None"),
        (dict(generator="G"), TypeError, "generator must be an nn.Module, got str"),
        (
            dict(discriminator=nn.ModuleList([nn.Linear(6, 1)])),
            TypeError,
            "discriminator must be a single nn.Module, such as pygan.Discri.*, got ModuleList",
        ),
        (dict(label_smoothing="0.1"), TypeError, "label_smoothing must be a number, got str"),
        (
            dict(d_optimizer=None),
            TypeError,
            "d_optimizer must be a torch.optim.Optimizer, got None",
        ),
    ],
)
def test_invalid_arguments_are_refused(change, error, message):
    G, D = networks()
    arguments = dict(
        generator=G,
        discriminator=D,
        g_optimizer=optimizer_of(G),
        d_optimizer=optimizer_of(D),
        latent=4,
    )
    name = "Constant: " if change.get("noise") == -0.1 else "GANTrainer: "
    with pytest.raises(error, match=name + message):
        pygan.GANTrainer(**{**arguments, **change})


def test_optimizers_must_hold_their_networks():
    G, D = networks()
    good = optimizer_of(G), optimizer_of(D)
    cases = [
        ((good[1], good[0]), "g_optimizer must hold all trainable parameters of the generator"),
        ((optimizer_of(G[0]), good[1]), "g_optimizer must hold all .* without 4 of 6"),
        ((good[0], optimizer_of(D[0])), "d_optimizer must hold all .* without 2 of 4"),
        ((good[0], optimizer_of(G, D)), "d_optimizer must hold .* only, got 6 of the other"),
        ((optimizer_of(G, D[2]), good[1]), "g_optimizer must hold .* only, got 2 of the other"),
    ]
    for optimizers, message in cases:
        with pytest.raises(ValueError, match=message):
            pygan.GANTrainer(G, D, *optimizers, latent=4)
    with pytest.raises(ValueError, match="must not share parameters"):
        pygan.GANTrainer(G, nn.Sequential(G, D), *good, latent=4)
    trainable = optimizer_of(D)
    D.requires_grad_(False)
    with pytest.raises(ValueError, match="discriminator must have trainable parameters, got none"):
        pygan.GANTrainer(G, D, good[0], trainable, latent=4)


def wrong_latents(sizes):
    sizes = iter(sizes)
    return lambda n: torch.randn(next(sizes), 4)


REAL = torch.randn(8, 6)


@pytest.mark.parametrize(
    ("options", "use", "error", "message"),
    [
        (
            {},
            lambda t: t.step(REAL[:0]),
            ValueError,
            r"real must be a non-empty batch .* got shape \(0, 6\)",
        ),
        (
            {},
            lambda t: t.step(REAL.sum()),
            ValueError,
            r"real must be a non-empty batch .* got shape \(\)",
        ),
        ({}, lambda t: t.step((REAL, REAL)), ValueError, r"one batch for each of the 1 .* got 2"),
        ({}, lambda t: t.step((REAL, 3)), ValueError, r"one batch for each of the 1 .* got 2"),
        ({}, lambda t: t.step([3]), TypeError, "real must be a tensor, got int"),
        (
            {},
            lambda t: t.step(None),
            TypeError,
            "real must be a tensor or a sequence.* got NoneType",
        ),
        (dict(d_steps=2), lambda t: t.step(REAL), ValueError, r"each of the 2 .* got 1"),
        (
            dict(d_steps=2),
            lambda t: t.step((REAL, REAL[:0])),
            ValueError,
            r"real must be a non-empty batch .* got shape \(0, 6\)",
        ),
        # Only the last latents are wrong, but nothing has been trained.
        (
            dict(d_steps=2, latent=wrong_latents([8, 8, 7])),
            lambda t: t.step((REAL, REAL)),
            ValueError,
            r"latent\(8\) must return .* first dimension is 8, got shape \(7, 4\)",
        ),
        (
            dict(latent=lambda n: None),
            lambda t: t.discriminator_step(REAL),
            ValueError,
            r"latent\(8\) must return a tensor .* got NoneType",
        ),
        ({}, lambda t: t.generator_step(0), ValueError, "batch_size must be .* got 0"),
        ({}, lambda t: t.generator_step(8, REAL), ValueError, "real must be None .* got Tensor"),
        (
            dict(loss="relativistic"),
            lambda t: t.generator_step(8),
            ValueError,
            "real must be a batch of real samples .* got NoneType",
        ),
        (
            dict(loss="relativistic_average"),
            lambda t: t.generator_step(8, REAL[:0]),
            ValueError,
            r"real must be a non-empty batch .* got shape \(0, 6\)",
        ),
        ({}, lambda t: t.discriminator_step([REAL]), TypeError, "real must be a tensor, got list"),
        (
            {},
            lambda t: t.step(REAL, REAL[:3]),
            ValueError,
            "labels must have a first dimension of 8",
        ),
        ({}, lambda t: t.step(REAL, 3), TypeError, "labels must be a tensor, got int"),
        (
            {},
            lambda t: t.discriminator_step(REAL, 3),
            TypeError,
            "labels must be a tensor, got int",
        ),
        ({}, lambda t: t.step(REAL, total=16), ValueError, "total must be the batch's 8 samples"),
        ({}, lambda t: t.step(REAL, total=[8, 8]), ValueError, "total must be an int or 1 of them"),
        ({}, lambda t: t.step(REAL, total=0), ValueError, "total must be an int of at least 1"),
        ({}, lambda t: t.sample(0), ValueError, "n must be an int of at least 1, got 0"),
        (
            {},
            lambda t: t.sample(4, latent=torch.zeros(8, 4)),
            ValueError,
            r"sample: latent must have a first dimension of 4, like the samples, got shape \(8, 4\)",
        ),
        ({}, lambda t: t.sample(4, latent=[0.0]), TypeError, "latent must be a tensor, got list"),
        (
            {},
            lambda t: t.step([REAL, REAL[:, 0]]),
            ValueError,
            r"one batch for each of the 1 .* got 2 \(a batch and its labels are step\(x, labels\)\)",
        ),
        # A loader's (samples, labels) looks like a list of two batches.
        (
            dict(d_steps=2),
            lambda t: t.step([REAL, torch.zeros(8).long()]),
            ValueError,
            r"real must hold batches with the same number of dimensions.* step\(x, labels\)\), got \[2, 1\]",
        ),
        (
            {},
            torch.no_grad()(lambda t: t.step(REAL)),
            RuntimeError,
            r"step: gradients must be enabled, got a call under torch.no_grad\(\)",
        ),
        (
            {},
            torch.inference_mode()(lambda t: t.discriminator_step(REAL)),
            RuntimeError,
            "discriminator_step: gradients must be enabled, got a call under",
        ),
        (
            {},
            torch.no_grad()(lambda t: t.generator_step(8)),
            RuntimeError,
            "generator_step: gradients must be enabled, got a call under",
        ),
    ],
)
def test_wrong_use_changes_nothing(options, use, error, message):
    trainer = setup(noise=pygan.InstanceNoise(Constant(0.1), seed=1), **options)
    before = everything(trainer)
    with pytest.raises(error, match="GANTrainer.*" + message):
        use(trainer)
    assert_same(everything(trainer), before)


def test_smoothing_with_an_unsupported_loss():
    with pytest.raises(ValueError, match='label_smoothing must be 0 for loss="hinge"'):
        setup(loss="hinge", label_smoothing=0.1)


BYTES = torch.randint(256, (8, 6), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (dict(noise=0.1), "noise"),
        (dict(penalties=R1(1.0)), "penalties"),
        (dict(penalties=R1(1.0), augment=lambda x: x / 127.5 - 1), "penalties"),
        (dict(penalties=R1(1.0, sigma=0.1)), "penalties"),
        (dict(penalties=[GradientPenalty()], noise=0.1), "penalties"),
    ],
)
def test_integer_samples_are_refused(options, cause):
    """With noise they became values from 0 to 255, next to generated samples from -1 to 1."""
    trainer = setup(loss="relativistic", **options)
    before = everything(trainer)
    for verb, use in (
        ("step", lambda: trainer.step(BYTES)),
        ("discriminator_step", lambda: trainer.discriminator_step(BYTES.long())),
        ("generator_step", lambda: trainer.generator_step(8, BYTES)),
    ):
        message = f"GANTrainer.{verb}: real must be float32, float64, float16 or bfloat16, in the"
        with raises(TypeError, message, f"for {cause}, got torch.", "real / 127.5 - 1"):
            use()
    with raises(
        TypeError, "GANTrainer.step: real must be", f"for {cause}, got torch.float8_e4m3fn"
    ):
        trainer.step(REAL.to(torch.float8_e4m3fn))
    assert_same(everything(trainer), before)


@pytest.mark.parametrize("penalty", [R1(1.0, sigma=0.1), R2(1.0), GradientPenalty()])
def test_augment_may_convert_integers(penalty):
    def convert(x):
        return x if x.is_floating_point() else x / 127.5 - 1

    options = dict(noise=pygan.InstanceNoise(Constant(0.1), seed=1), penalties=penalty, seed=1)
    trainer = setup(augment=convert, **options)
    options["noise"] = pygan.InstanceNoise(Constant(0.1), seed=1)
    assert_same(trainer.step(BYTES), setup(**options).step(convert(BYTES)))
    trainer = setup(augment=lambda x: x, **options)
    with raises(TypeError, "GANTrainer: augment must return floating-point samples for noise"):
        trainer.step(BYTES)
    trainer = setup(augment=lambda x: None)
    with raises(TypeError, "GANTrainer: augment must return a tensor, got NoneType"):
        trainer.step(REAL)


def test_a_step_within_accelerate_accumulate_is_refused():
    """There, prepared optimizers skip all steps except the last, whose gradient alone would count."""
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    try:
        G, D = networks()
        prepared = [accelerator.prepare(net, optimizer_of(net)) for net in (G, D)]
        (G, g_optimizer), (D, d_optimizer) = prepared
        trainer = pygan.GANTrainer(G, D, g_optimizer, d_optimizer, latent=4, seed=0)
        trainer.step(REAL)
        before = everything(trainer)
        for use in (
            lambda: trainer.step(REAL),
            lambda: trainer.discriminator_step(REAL),
            lambda: trainer.generator_step(8),
        ):
            message = "g_optimizer must not skip steps, got one within accelerator.accumulate"
            with accelerator.accumulate(G, D):
                assert not accelerator.sync_gradients
                with pytest.raises(
                    RuntimeError, match=rf"GANTrainer\.\w+: {message}.*micro_batches"
                ):
                    use()
            with accelerator.accumulate(G, D):
                pass
        assert_same(everything(trainer), before)
    finally:
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
        accelerate.state.GradientState._reset_state()


AUGMENTS = {
    "detach": torch.Tensor.detach,
    "numpy": lambda x: torch.from_numpy(x.detach().numpy() * 2),
}


@pytest.mark.parametrize("name", AUGMENTS)
@pytest.mark.parametrize("penalties", [[], [R1(1.0)], [R2(1.0)], [R1(1.0, sigma=0.1)]])
def test_a_nondifferentiable_augmentation_is_refused(name, penalties):
    """In the generator's phase, or if a penalty differentiates with respect to the samples."""
    trainer = setup(augment=AUGMENTS[name], penalties=penalties)
    before = everything(trainer)[0][1:]  # BatchNorm of the generator has seen samples
    message = "GANTrainer: logits, loss and penalties must be differentiable with respect to "
    with raises(RuntimeError, message, "neither augment, nor a network, nor a custom loss"):
        trainer.generator_step(8)
    assert_same(everything(trainer)[0][1:], before)
    with raises(RuntimeError, message, "neither augment, nor a network, nor a custom loss"):
        trainer.step(REAL)


@pytest.mark.parametrize("loss", ["non_saturating", "relativistic"])
def test_an_in_place_augmentation_is_refused(loss):
    """It modified the caller's batch, and for a relativistic loss the real samples twice."""
    trainer = setup(augment=lambda x: x.mul_(2), loss=loss)
    before = everything(trainer)[0][1:]  # BatchNorm of the generator has seen samples
    for real in (REAL.clone(), REAL.clone()[:4]):
        with raises(
            ValueError, "GANTrainer: augment must not change the samples in place, got one"
        ):
            trainer.step(real)
    assert_same(everything(trainer)[0][1:], before)
    trainer = setup(augment=lambda x: x.clone().mul_(2), loss=loss)
    trainer.step(REAL)
