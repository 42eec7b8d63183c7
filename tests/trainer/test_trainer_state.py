"""A trainer that continues from its state_dict is equal to an uninterrupted one."""

import copy
import io

import pytest
import torch
from helpers import raises
from helpers.trainer import assert_same, networks
from torch import nn

import pygan
from pygan import fused_losses
from pygan.penalties import R1, GradientPenalty, Penalty
from pygan.schedules import Adaptive, DiffusionMixture


def make(seed, **options):
    G, D = networks(seed)
    optimizers = [torch.optim.Adam(net.parameters(), lr=1e-2) for net in (G, D)]
    options = {
        "noise": pygan.InstanceNoise(Adaptive(0.0, 0.5, steps=4), seed=seed),
        "penalties": [R1(1.0, every=3), GradientPenalty(every=2)],
        "ema": 0.9,
        "scaler": torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2),
        "seed": seed,
        "d_steps": 2,
        **options,
    }
    return pygan.GANTrainer(G, D, *optimizers, latent=4, **options)


def train(trainer, batches):
    rows = []
    for real in batches:
        stats = trainer.step(list(real))
        trainer.noise.step(stats.real_sign)
        rows.append(torch.stack([*stats, trainer.noise.sigma]))
    return rows


def saved(trainer):
    file = io.BytesIO()
    torch.save(trainer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("stop", [0, 1, 4])
@pytest.mark.parametrize("mixture", [False, True])
def test_a_resumed_run_is_bitwise_equal_to_an_uninterrupted_one(stop, mixture):
    def fresh(seed):
        noise = pygan.InstanceNoise(DiffusionMixture(8), seed=seed)
        return make(seed, **({"noise": noise} if mixture else {}))

    batches = torch.randn(7, 2, 8, 6)
    whole, first, resumed = fresh(2**64 - 1), fresh(2**64 - 1), fresh(5)
    rows = train(whole, batches)
    train(first, batches[:stop])
    resumed.load_state_dict(saved(first))
    assert (resumed.steps, resumed.d_updates) == (stop, 2 * stop)
    assert_same(train(resumed, batches[stop:]), rows[stop:])
    assert_same(saved(resumed), saved(whole))
    assert_same(resumed.sample(3), whole.sample(3))


def test_the_state_has_no_wrappers_and_is_a_copy():
    G, D = networks()
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
    compiled = [torch.compile(net, backend="eager") for net in (G, D)]
    trainer = pygan.GANTrainer(*compiled, *optimizers, latent=4, penalties=R1(1.0), ema=0.5)
    trainer.step(torch.randn(8, 6))
    state = trainer.state_dict()
    assert set(state["generator"]) == set(G.state_dict())
    assert set(state["discriminator"]) == set(D.state_dict())
    penalty = state["penalties"][0].clone()
    trainer.step(torch.randn(8, 6))
    assert_same(state["penalties"][0], penalty)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(ema=None), r"without \[\], with \['ema'\]"),
        (dict(noise=None), r"without \[\], with \['noise'\]"),
        (dict(penalties=R1(1.0)), "one with 2 penalties instead of 1"),
    ],
)
def test_a_state_with_other_parts_is_refused(options, message):
    state, trainer = make(1).state_dict(), make(2, **options)
    before = saved(trainer)
    with pytest.raises(KeyError, match=r"GANTrainer.load_state_dict: .*" + message):
        trainer.load_state_dict(state)
    assert_same(saved(trainer), before)


def other_discriminator(state):
    state["discriminator"]["2.weight"] = torch.zeros(1, 9)


def other_generator(state):
    state["generator"]["9.weight"] = state["generator"].pop("0.weight")


def sgds(state):
    (p,) = setup_sgd().param_groups
    group = {**p, "params": list(range(len(state["g_optimizer"]["state"])))}
    state["g_optimizer"] = {"state": {}, "param_groups": [group]}


def setup_sgd():
    return torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=0.1, momentum=0.9)


FOREIGN = {
    "generator": other_generator,
    "discriminator": other_discriminator,
    "ema": lambda state: state["ema"].update({"module.0.weight": torch.zeros(3)}),
    "noise": lambda state: state["noise"].popitem(),
    "d_optimizer": lambda state: state["d_optimizer"]["param_groups"][0]["params"].pop(),
    "g_optimizer": sgds,
    "scaler": lambda state: state.update(scaler={}),
    "stream": lambda state: state.update(stream=None),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_state_with_a_wrong_part_is_refused_without_changes(name):
    """The generator's state was loaded before the discriminator's was found to be wrong."""
    first, trainer = make(1), make(2)
    for each in (first, trainer):
        train(each, torch.randn(2, 2, 8, 6))
    state = copy.deepcopy(first.state_dict())
    FOREIGN[name](state)
    before = saved(trainer)
    with raises(ValueError, f"GANTrainer.load_state_dict: the state of {name} must be from a"):
        trainer.load_state_dict(state)
    assert_same(saved(trainer), before)
    train(trainer, torch.randn(1, 2, 8, 6))
    trainer.load_state_dict(first.state_dict())
    assert_same(saved(trainer), saved(first))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"steps": "3"}, ValueError),
        ({"d_updates": -1}, ValueError),
        ({"penalties": [1, 2]}, TypeError),
    ],
)
def test_invalid_counters_are_refused(change, error):
    trainer = make(2)
    before = saved(trainer)
    with raises(error, f"GANTrainer.load_state_dict: {next(iter(change))} must be"):
        trainer.load_state_dict({**make(1).state_dict(), **change})
    assert_same(saved(trainer), before)


@pytest.mark.parametrize(
    ("saves", "loads"),
    [
        (torch.optim.Adam, torch.optim.SGD),
        (torch.optim.SGD, torch.optim.Adam),
        (torch.optim.Adam, torch.optim.RMSprop),
    ],
)
def test_a_state_of_another_kind_of_optimizer_is_refused(saves, loads):
    """The next step raised KeyError: 'momentum'."""

    def trainer_with(kind):
        G, D = networks()
        return pygan.GANTrainer(
            G, D, *(kind(net.parameters(), lr=0.1) for net in (G, D)), latent=4, seed=1
        )

    first, trainer = trainer_with(saves), trainer_with(loads)
    first.step(torch.randn(8, 6))
    trainer.step(torch.randn(8, 6))
    before = saved(trainer)
    message = (
        f"GANTrainer.load_state_dict: the state of g_optimizer must be from a {loads.__name__}"
    )
    with raises(ValueError, message, "its groups lack"):
        trainer.load_state_dict(first.state_dict())
    assert_same(saved(trainer), before)
    trainer.step(torch.randn(8, 6))


class Averages:
    """A loss with a state, like LeCam's averages of the logits."""

    def __init__(self):
        self.mean = torch.zeros(())

    def discriminator_loss(self, real, fake):
        self.mean = 0.9 * self.mean + 0.1 * real.detach().mean()
        return fused_losses.discriminator_loss(real, fake) + (fake - self.mean).square().mean()

    def generator_loss(self, fake):
        return fused_losses.generator_loss(fake)

    def state_dict(self):
        return {"mean": self.mean}

    def load_state_dict(self, state):
        self.mean = state["mean"].clone()


class Growing(Penalty):
    """A penalty with a state that is not among the trainer's counters."""

    def __init__(self):
        super().__init__()
        object.__setattr__(self, "calls", [0])

    def value(self, real, fake, probe, step):
        self.calls[0] += 1
        return 0.1 * self.calls[0] * fake.logits.square().mean()

    def state_dict(self):
        return {"calls": self.calls[0]}

    def load_state_dict(self, state):
        self.calls[0] = state["calls"]


class Shift(nn.Module):
    """An augmentation whose strength changes during the run."""

    def __init__(self):
        super().__init__()
        self.register_buffer("strength", torch.zeros(()))

    def forward(self, x):
        self.strength += 0.125
        return x + self.strength.clone()


def stateful():
    return {"loss": Averages(), "penalties": [R1(1.0), Growing()], "augment": Shift()}


def test_the_state_of_stateful_arguments_is_saved():
    batches = torch.randn(5, 2, 8, 6)
    whole, first, resumed = (make(1, **stateful()) for _ in range(3))
    rows = train(whole, batches)
    train(first, batches[:2])
    resumed.load_state_dict(saved(first))
    assert_same(train(resumed, batches[2:]), rows[2:])
    assert_same(saved(resumed), saved(whole))
    assert {"loss", "augment", "penalty 1"} <= set(saved(whole))


def test_an_older_state_without_entries_for_stateless_objects_loads():
    """Entries may be missing for objects without a state, but not for objects with one."""

    class Stateless(nn.Module):
        discriminator_loss = staticmethod(fused_losses.discriminator_loss)
        generator_loss = staticmethod(fused_losses.generator_loss)

    trainer = make(1, loss=Stateless())
    state = saved(trainer)
    assert state.pop("loss") == {}
    trainer.load_state_dict(state)
    trainer = make(1, **stateful())
    state = saved(trainer)
    del state["loss"], state["penalty 1"]
    before = saved(trainer)
    message = r"GANTrainer.load_state_dict: .* without \['loss', 'penalty 1'\], with \[\]"
    with pytest.raises(KeyError, match=message):
        trainer.load_state_dict(state)
    assert_same(saved(trainer), before)
