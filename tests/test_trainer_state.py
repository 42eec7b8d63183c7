"""A trainer that continues from its state_dict is the one that was never stopped."""

import io

import pytest
import torch
from helpers_trainer import assert_same, networks

import pygan
from pygan.penalties import R1, GradientPenalty
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
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(stop, mixture):
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


def test_the_state_has_no_wrappers_and_stays_when_training_goes_on():
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
        (dict(penalties=R1(1.0)), "one with 2 penalties for 1"),
    ],
)
def test_a_state_of_other_parts_is_refused(options, message):
    state, trainer = make(1).state_dict(), make(2, **options)
    before = saved(trainer)
    with pytest.raises(KeyError, match=r"GANTrainer.load_state_dict: .*" + message):
        trainer.load_state_dict(state)
    assert_same(saved(trainer), before)
