"""GANTrainer's generator terms, the weight of the adversarial loss, and its late start."""

import copy
import pickle

import pytest
import torch
from helpers import accelerated_on, raises
from helpers.fit import data, metrics, run
from helpers.recipes import assert_close, latents, pairs, update
from helpers.trainer import assert_same, everything, networks, setup
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import l1_loss
from torch.optim.lr_scheduler import ChainedScheduler, ExponentialLR, OneCycleLR

import pygan
from pygan import fused_losses
from pygan.penalties import PathLength, adaptive_weight
from pygan.schedules import Adaptive, Linear
from pygan.trainer import GeneratorStep, TrainStats


def ones(x):
    return bce(x, torch.ones_like(x))


def zeros(x):
    return bce(x, torch.zeros_like(x))


def plain_steps(G, D, g_optimizer, d_optimizer, rounds, g_loss_of):
    """A loop with the non-saturating discriminator loss, and the generator's loss from `g_loss_of`."""
    for z, other, real in rounds:
        fake = G(z).detach()
        update(d_optimizer, ones(D(real)) + zeros(D(fake)))
        update(g_optimizer, g_loss_of(G(other), real, other))


def rounds_of(drawn):
    reals = [torch.randn(8, 6, dtype=torch.float64) for _ in drawn[::2]]
    return list(zip(drawn[::2], drawn[1::2], reals, strict=True))


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_terms_are_added_to_the_adversarial_loss(micro_batches):
    drawn, latent = latents(8)
    target = torch.randn(4, 6, dtype=torch.float64)

    def terms(step):
        assert isinstance(step, GeneratorStep)
        return {
            "l1": 10 * l1_loss(step.fake, step.real),
            "matched": (step.fake_output.mean() - step.real_output.mean()).square(),
            "mapped": (step.fake - step.latent @ target).square().mean(),
        }

    trainer, G, D, *optimizers = pairs(
        nn.Linear(6, 1), nn.Linear(4, 6), latent=latent, generator_terms=terms
    )
    trainer.micro_batches = micro_batches
    seen = []

    def g_loss(fake, real, z):
        values = {"l1": 10 * l1_loss(fake, real), "mapped": (fake - z @ target).square().mean()}
        if micro_batches == 1:
            values["matched"] = (D(fake).mean() - D(real).mean()).square()
        else:  # not a mean over the samples
            sizes = [3, 3, 2]
            pairs = zip(fake.split(sizes), real.split(sizes), sizes, strict=True)
            values["matched"] = sum(
                n / 8 * (D(f).mean() - D(r).mean()).square() for f, r, n in pairs
            )
        seen.append({name: value.item() for name, value in values.items()})
        return ones(D(fake)) + sum(values.values())

    rounds = rounds_of(drawn)
    stats = [trainer.step(real) for *_, real in rounds]
    plain_steps(G, D, *optimizers, rounds, g_loss)
    assert_close(trainer, G, D)
    for its, theirs in zip(stats, seen, strict=True):
        assert {k: v.item() for k, v in its.terms.items()} == pytest.approx(theirs, rel=1e-9)
        assert not any(v.requires_grad for v in its.terms.values())
        numbers = its.numbers()
        assert list(numbers) == [*TrainStats._fields, "l1", "matched", "mapped"]
        assert numbers["l1"] == pytest.approx(theirs["l1"], rel=1e-6)
        assert numbers["g_loss"] == pytest.approx(its.g_loss.item())


def test_a_parameter_as_term_is_reported_as_it_was_before_the_update():
    generator, discriminator = networks()
    generator.register_parameter("size", nn.Parameter(torch.tensor(2.0)))
    optimizers = (torch.optim.SGD(net.parameters(), lr=0.5) for net in (generator, discriminator))
    trainer = pygan.GANTrainer(
        generator,
        discriminator,
        *optimizers,
        latent=4,
        generator_terms=lambda step: {"size": generator.size},
    )
    stats = trainer.step(torch.randn(8, 6))
    assert stats.terms["size"].item() == 2.0
    assert generator.size.item() == 1.5


@pytest.mark.parametrize("loss", ["relativistic", "non_saturating"])
def test_repeated_reads_evaluate_the_discriminator_once(loss):
    calls = []

    def terms(step):
        values = [step.fake_output, step.fake_logits, step.real_output, step.real_logits]
        assert values[0].requires_grad and not values[2].requires_grad
        return {"zero": 0 * sum(x.mean() for x in values)}

    trainer = setup(generator_terms=terms, loss=loss)
    trainer.discriminator.register_forward_hook(lambda *_: calls.append(1))
    trainer.step(torch.randn(8, 6))
    assert len(calls) == 4  # two in the discriminator's step
    trainer.generator_terms = lambda step: {"fake": 0 * step.fake.mean()}
    trainer.step(torch.randn(8, 6))
    assert len(calls) == 4 + (4 if loss == "relativistic" else 3)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(
    ("given", "weights"),
    [
        (0.25, [0.25] * 3),
        (0, [0.0] * 3),
        (torch.tensor(0.5, dtype=torch.float64), [0.5] * 3),
        (Linear(1.0, 0.0, steps=4), [1.0, 0.75, 0.5]),
        (
            lambda step: 0.5 * step.g_loss.detach() / step.g_loss.detach() + step.steps,
            [0.5, 1.5, 2.5],
        ),
    ],
    ids=["number", "zero", "tensor", "schedule", "callable"],
)
def test_the_adversarial_weight(given, weights, scaled):
    drawn, latent = latents(6)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0) if scaled else None
    trainer, G, D, *optimizers = pairs(
        latent=latent,
        generator_terms=lambda step: {"l1": l1_loss(step.fake, step.real)},
        adversarial_weight=given,
        scaler=scaler,
    )
    factors = iter(weights)
    rounds = rounds_of(drawn)
    stats = [trainer.step(real) for *_, real in rounds]
    plain = []

    def g_loss(fake, real, z):
        plain.append(ones(D(fake)))
        return next(factors) * plain[-1] + l1_loss(fake, real)

    plain_steps(G, D, *optimizers, rounds, g_loss)
    assert_close(trainer, G, D)
    for its, theirs in zip(stats, plain, strict=True):  # unweighted
        torch.testing.assert_close(its.g_loss, theirs.detach())


@pytest.mark.parametrize("own", [False, True])
def test_vqgan_adaptive_weight_and_late_start(own):
    """Esser et al. 2021: from step n on, weighted by the ratio of two gradient norms at the last layer."""
    drawn, latent = latents(10)
    loss = fused_losses if own else "non_saturating"

    def weight(step):
        last = trainer.generator[-1].weight
        return 0.8 * adaptive_weight(step.terms["rec"], step.g_loss, last)

    trainer, G, D, *optimizers = pairs(
        latent=latent,
        loss=loss,
        discriminator_start=2,
        generator_terms=lambda step: {"rec": l1_loss(step.fake, step.real)},
        adversarial_weight=weight,
    )
    for number, (z, other, real) in enumerate(rounds_of(drawn)):
        stats = trainer.step(real)
        is_on = number >= 2
        if is_on:
            fake = G(z).detach()
            d_loss = ones(D(real)) + zeros(D(fake))
            update(optimizers[1], d_loss)
        else:
            # BatchNorm's statistics are compared below; the trainer does not generate unused samples.
            G(z)
        fake = G(other)
        rec = l1_loss(fake, real)
        loss = rec
        if is_on:
            g_loss = ones(D(fake))
            norms = [
                torch.autograd.grad(x, G[-1].weight, retain_graph=True)[0].norm()
                for x in (rec, g_loss)
            ]
            loss = rec + 0.8 * (norms[0] / (norms[1] + 1e-4)).clamp(0, 1e4).detach() * g_loss
        update(optimizers[0], loss)
        torch.testing.assert_close(stats.terms["rec"], rec.detach())
        assert (stats.d_loss != 0) == (stats.g_loss != 0) == (stats.fake_logit != 0) == is_on
        assert trainer.d_updates == max(0, number - 1)
        if not is_on:
            G[1].load_state_dict(trainer.generator[1].state_dict())
    assert_close(trainer, G, D)


def test_before_the_start_the_discriminator_is_not_evaluated():
    trainer = setup(discriminator_start=3, generator_terms=lambda s: {"l1": s.fake.abs().mean()})
    trainer.discriminator.register_forward_pre_hook(lambda *_: pytest.fail("asked"))
    before = copy.deepcopy(trainer.discriminator.state_dict())
    loss, numbers = trainer.discriminator_step(torch.randn(8, 6))
    assert loss == 0 and not any(numbers) and trainer.d_updates == 0
    for _ in range(3):
        stats = trainer.step(torch.randn(8, 6))
    assert stats.numbers() == {
        **dict.fromkeys(TrainStats._fields, 0.0),
        "l1": stats.terms["l1"].item(),
    }
    assert_same(trainer.discriminator.state_dict(), before)
    assert trainer.ends_in_sigmoid is None and trainer.steps == 3


def test_fit_and_the_monitor_wait_for_the_start(tmp_path):
    """Statistics of 0 before the start give no diagnosis, and do not affect the noise schedule."""
    trainer = setup(discriminator_start=3, generator_terms=lambda s: {"l1": s.fake.abs().mean()})
    monitor = pygan.Monitor(trainer, every=1)
    for step in range(1, 6):
        monitor.update(trainer.step(torch.randn(8, 6)))
        assert len(monitor.state_dict()["coming"]) + len(monitor.state_dict()["block"]) <= max(
            0, step - 3
        )
    G, D = networks()
    options = {"discriminator_start": 3, "noise": Adaptive(0.0, 1.0, steps=4), "ema": 0.5}
    result = run(
        tmp_path,
        G=G,
        D=D,
        generator_terms=lambda s: {"l1": s.fake.abs().mean()},
        steps=5,
        **options,
    )
    assert result.trainer.noise.schedule.count == 2 and result.trainer.d_updates == 2
    assert all("terms/l1" in line for line in metrics(tmp_path) if "g_loss" in line)


def late_start(out, schedules, steps=6, **options):
    """A run of fit whose discriminator starts after three steps, with schedulers of both optimizers; the rates."""
    G, D = networks()
    g, d = (torch.optim.SGD(network.parameters(), lr=0.1) for network in (G, D))
    options = {
        "latent": 4,
        "steps": steps,
        "batch_size": 8,
        "generator_terms": lambda step: {"l1": step.fake.abs().mean()},
        "discriminator_start": 3,
        "lr_schedulers": [make(o) for make, o in zip(schedules, (g, d), strict=True)],
        "log_every": 1,
        "sample_every": None,
        **options,
    }
    with accelerated_on("cpu"):
        result = pygan.fit(G, D, data(), g_optimizer=g, d_optimizer=d, out=out, **options)
    rates = [[line[name] for line in metrics(out) if "g_lr" in line] for name in ("g_lr", "d_lr")]
    return result, rates


def halved(optimizer):
    return ExponentialLR(optimizer, 0.5)


@pytest.mark.filterwarnings("error:Detected call of:UserWarning")
def test_the_discriminators_schedule_begins_with_its_training(tmp_path):
    """Also on resume, with the saved schedules and with new ones, and if it is part of another schedule."""
    rates = [[0.1 * 0.5 ** max(0, step - late) for step in range(1, 7)] for late in (0, 3)]
    found = late_start(tmp_path / "a", [halved, halved])[1]
    assert found == [pytest.approx(each) for each in rates]
    chained = [lambda o: ChainedScheduler([halved(o)])] * 2
    assert late_start(tmp_path / "b", chained)[1] == found
    for name, changes in (("c", {}), ("d", {"allow_changes": True})):
        late_start(tmp_path / name, [halved, halved], steps=4)
        gamma = 0.25 if changes else 0.5
        schedules = [lambda o, gamma=gamma: ExponentialLR(o, gamma)] * 2
        _, resumed = late_start(tmp_path / name, schedules, resume="auto", **changes)
        expected = [0.1 * gamma ** max(0, step - late) for late in (0, 3) for step in (5, 6)]
        assert [*resumed[0][4:], *resumed[1][4:]] == pytest.approx(expected)


def test_the_discriminators_schedule_may_last_only_for_its_training(tmp_path):
    def one_cycle(steps):
        return lambda o: OneCycleLR(o, 0.1, total_steps=steps, cycle_momentum=False)

    assert late_start(tmp_path / "a", [one_cycle(6), one_cycle(3)])[0].steps == 6
    for steps in ((5, 3), (6, 2)):
        with raises(
            ValueError, "pygan.fit: lr_schedulers must last for the whole run, got OneCycleLR"
        ):
            late_start(tmp_path / "b", [*map(one_cycle, steps)])


def test_a_term_may_generate_its_own_samples():
    """StyleGAN2's path length in every second step, with its average in the trainer's state."""

    class Terms(nn.Module):
        def __init__(self):
            super().__init__()
            self.path = PathLength()

        def forward(self, step):
            if step.steps % 2:
                return {}
            z = torch.randn(4, 4, requires_grad=True)
            return {"path": 2 * self.path(trainer.generator(z), z)}

    trainer = setup(generator_terms=Terms())
    names = [list(trainer.step(torch.randn(8, 6)).terms) for _ in range(4)]
    assert names == [["path"], [], ["path"], []]
    state = trainer.state_dict()
    average = trainer.generator_terms.path.averages.clone()
    assert average > 0
    other = setup(generator_terms=Terms())
    other.load_state_dict(state)
    assert_same(other.generator_terms.path.averages, average)


@pytest.mark.parametrize("true", [True, 1])
def test_a_custom_comparing_loss_gets_the_real_output(true):
    class Compares:
        compares = true

        def discriminator_loss(self, real, fake):
            return -(real - fake).mean()

        def generator_loss(self, fake, real):
            assert fake.requires_grad and not real.requires_grad
            return (real.mean() - fake.mean()).square()

    trainer = setup(loss=Compares())
    trainer.step(torch.randn(8, 6))
    trainer.generator_step(8, torch.randn(8, 6))
    with pytest.raises(ValueError, match="real must be a batch of real samples"):
        trainer.generator_step(8)


def test_a_generator_step_takes_real_samples_for_the_terms():
    trainer = setup(generator_terms=lambda step: {"l1": l1_loss(step.fake, step.real)})
    loss, stats = trainer.generator_step(8, torch.randn(8, 6))
    assert 0 < loss < 10 and stats.nonfinite == 0
    trainer = setup(generator_terms=lambda step: {"matched": step.real_output.mean()})
    with pytest.raises(RuntimeError, match=r"generator_step: real must be a batch .* got None"):
        trainer.generator_step(8)


@pytest.mark.parametrize(
    ("terms", "kind", "message"),
    [
        (
            lambda s: s.fake.mean(),
            TypeError,
            "generator_terms must return a dict .* got a tensor of",
        ),
        (lambda s: None, TypeError, "generator_terms must return a dict .* got NoneType"),
        (lambda s: {"a": 1.0}, TypeError, "'a': float"),
        (lambda s: {1: s.fake.mean()}, TypeError, "by name, got 1"),
        (lambda s: {"a": s.fake.mean(1)}, ValueError, "'a': a tensor of shape"),
        (lambda s: {"a": s.fake.mean().detach()}, ValueError, "'a' without a graph"),
        (
            lambda s: {"d_loss": s.fake.mean()},
            ValueError,
            "whose names differ from those of the statistics, got 'd_",
        ),
    ],
)
def test_invalid_terms_are_refused(terms, kind, message):
    trainer = setup(generator_terms=terms)
    before = everything(trainer)
    with pytest.raises(kind, match=message):
        trainer.generator_step(8, torch.randn(8, 6))
    after = everything(trainer)
    assert_same((after[0][1:], after[1], after[4:]), (before[0][1:], before[1], before[4:]))


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (dict(generator_terms=3), TypeError, "generator_terms must be a callable or None, got int"),
        (
            dict(discriminator_start=5),
            ValueError,
            "generator_terms must be given with discriminator_",
        ),
        (dict(discriminator_start=-1), ValueError, "discriminator_start must"),
        (
            dict(adversarial_weight=-1.0),
            ValueError,
            "adversarial_weight must be finite and non-neg",
        ),
        (
            dict(adversarial_weight=float("nan")),
            ValueError,
            "adversarial_weight must be finite and",
        ),
        (dict(adversarial_weight="big"), TypeError, "adversarial_weight must be a number"),
        (dict(adversarial_weight=torch.ones(2)), ValueError, "adversarial_weight must be 0-d"),
        (dict(adversarial_weight=torch.tensor(1)), ValueError, "adversarial_weight must be 0-d"),
        (
            dict(adversarial_weight=Adaptive(0.0, 1.0, steps=9)),
            TypeError,
            "that depends on the step count",
        ),
    ],
)
def test_unsupported_options_are_refused_by_the_trainer(options, kind, message):
    with pytest.raises(kind, match=f"GANTrainer: .*{message}"):
        setup(**options)


def test_an_invalid_adversarial_weight_is_refused():
    trainer = setup(adversarial_weight=lambda step: 0.5)
    with pytest.raises(TypeError, match="adversarial_weight must return a 0-d tensor, got float"):
        trainer.step(torch.randn(8, 6))


def test_a_late_start_needs_a_term():
    trainer = setup(discriminator_start=2, generator_terms=lambda step: {})
    with pytest.raises(
        ValueError, match="generator_terms must return a loss before discriminator_s"
    ):
        trainer.step(torch.randn(8, 6))


def test_an_adversarial_weight_on_another_device_is_refused():
    for given in (torch.tensor(0.5, device="meta"), lambda _: torch.tensor(0.5, device="meta")):
        for loss in ("non_saturating", fused_losses):
            trainer = setup(adversarial_weight=given, loss=loss)
            before = copy.deepcopy(trainer.generator[0].weight)
            with pytest.raises(ValueError, match=r"on the discriminator's device, cpu, .* on meta"):
                trainer.step(torch.randn(8, 6))
            assert_same(trainer.generator[0].weight, before)


def test_a_learned_adversarial_weight_is_refused():
    with pytest.raises(ValueError, match="adversarial_weight must not require a gradient"):
        setup(adversarial_weight=nn.Parameter(torch.tensor(0.5)))


@pytest.mark.parametrize("n", [2, 16])
def test_micro_batches_of_a_generator_step_have_equally_many_real_samples(n):
    """Otherwise some would have none, with a mean of NaN, or some samples would not be used."""
    trainer = setup(generator_terms=lambda s: {"l1": s.fake.mean() - s.real.mean()})
    trainer.generator_step(8, torch.randn(n, 6))
    trainer.micro_batches = 3
    before = everything(trainer)
    with pytest.raises(ValueError, match="generator_step: real must have a first dimension of 8"):
        trainer.generator_step(8, torch.randn(n, 6))
    assert_same(everything(trainer), before)


def test_a_generator_step_takes_real_samples_for_the_weight():
    def weight(step):
        return (step.real_logits.mean() - step.fake_logits.mean()).detach().abs()

    loss, _ = setup(adversarial_weight=weight).generator_step(8, torch.randn(8, 6))
    assert loss.isfinite()
    with pytest.raises(ValueError, match="real must be None for loss"):
        setup(adversarial_weight=Linear(1.0, 0.0, 9)).generator_step(8, torch.randn(8, 6))


def test_replacing_statistics_keeps_the_terms():
    stats = setup(generator_terms=lambda s: {"l1": s.fake.abs().mean()}).step(torch.randn(8, 6))
    replaced = stats._replace(g_loss=stats.d_loss)
    assert isinstance(replaced, TrainStats) and replaced.g_loss is stats.d_loss
    for other in (replaced, copy.deepcopy(stats), pickle.loads(pickle.dumps(stats))):
        assert_same(other.terms, stats.terms)
