"""Captured steps in a loop: learning rates, optimizers, batches of other sizes, loaded states, and the trainer's other
methods between steps. With tapes, as in test_capture.py."""

import copy

import pytest
import torch
from helpers.capture import capturable_on_the_cpu, capture, fused_adam, setup
from helpers.trainer import assert_same
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

from pygan import penalties, schedules


def batch(i, n=12):
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(i))


@pytest.fixture(autouse=True)
def capturable():
    with capturable_on_the_cpu():
        yield


def state(trainer):
    grads = [p.grad for net in (trainer.generator, trainer.discriminator) for p in net.parameters()]
    return copy.deepcopy((trainer.state_dict(), grads, trainer.fake, trainer.real))


def pair(**options):
    """Two trainers; the second is captured."""
    trainers = [setup(**copy.deepcopy(options)) for _ in range(2)]
    return *trainers, capture(trainers[1], batch(99))


RATE = 2.0**-6


def of(kind, **options):
    # As a tensor, because replays read a tensor, so that the rate is rounded equally.
    return lambda p: getattr(torch.optim, kind)(p, lr=torch.tensor(RATE), **options)


OPTIMIZERS = {
    "Adam": of("Adam", capturable=True, foreach=True),
    "Adam, one by one": of("Adam", capturable=True, foreach=False),
    "Adam, fused": of("Adam", capturable=True, fused=True, amsgrad=True),
    "AdamW": of("AdamW", capturable=True, weight_decay=0.1),
    "SGD": of("SGD", fused=True),
    "SGD, momentum": of("SGD", fused=True, momentum=0.9, dampening=0.5),
    "RMSprop": of("RMSprop", capturable=True, foreach=True, momentum=0.5, centered=True),
    "NAdam": of("NAdam", capturable=True),
    "RAdam": of("RAdam", capturable=True),
    "Adamax": of("Adamax", capturable=True),
    "Adadelta": of("Adadelta", capturable=True, foreach=True),
    "ASGD": of("ASGD", capturable=True),
    "Rprop": of("Rprop", capturable=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name):
    eager, replayed, tapes = pair(optimizer=OPTIMIZERS[name])
    assert not replayed.g_optimizer.state
    for i in range(30):
        assert_same(replayed.step(batch(i)), eager.step(batch(i)))
    assert tapes.replays == 30 - (name != "SGD")  # has no state to create
    assert_same(state(replayed), state(eager))


SCHEDULERS = {
    "numbers": lambda optimizer: CosineAnnealingLR(optimizer, 20),
    "halves": lambda optimizer: LambdaLR(optimizer, lambda i: 0.5 ** (i // 3)),
    "by hand": None,
}


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_learning_rates(name, tensor):
    def optimizer(parameters):
        return fused_adam(parameters, lr=torch.tensor(RATE) if tensor else RATE, capturable=True)

    trainers = pair(optimizer=optimizer)[:2]
    all_stats = []
    for trainer in trainers:
        optimizers = trainer.g_optimizer, trainer.d_optimizer
        made = [SCHEDULERS[name](o) for o in optimizers] if SCHEDULERS[name] else []
        stats = []
        for i in range(20):
            stats.append(trainer.step(batch(i)))
            for scheduler in made:
                scheduler.step()
            if not made:
                for o in optimizers:
                    o.param_groups[0]["lr"] = RATE / (i + 1)
        all_stats.append(torch.tensor([[*x] for x in stats]))
        assert isinstance(trainer.g_optimizer.param_groups[0]["lr"], torch.Tensor) == (
            tensor and bool(made)
        )
    if name == "halves":
        assert_same(all_stats[1], all_stats[0])
        assert_same(trainers[1].state_dict(), trainers[0].state_dict())
    # The replay's rates are rounded to float32; a rate that did not change would be far off.
    torch.testing.assert_close(all_stats[1], all_stats[0], rtol=1e-4, atol=1e-5)


def test_a_scheduler_made_later_does_not_warn(recwarn):
    trainer = setup()
    trainer.step(batch(0))
    tapes = capture(trainer, batch(99))
    scheduler = CosineAnnealingLR(trainer.g_optimizer, 20)
    for i in range(3):
        trainer.step(batch(i))
        scheduler.step()
    assert tapes.replays == 3
    assert not [w for w in recwarn if "lr_scheduler" in str(w.message)]


def test_batches_of_other_sizes():
    options = {"penalties": penalties.R1(1.0, every=2), "ema": 0.9, "noise": 0.1}
    eager, replayed, tapes = pair(**options)
    for i in range(20):
        x = batch(i, 5 if i % 4 == 3 else 12)
        assert_same(replayed.step(x), eager.step(x))
        assert_same(state(replayed), state(eager))
    assert tapes.replays == 20 - 5 - 1


LAYOUTS = {
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "a slice": lambda x: torch.cat([x, x], 3)[..., :4],
    "one sample for all": lambda x: x[:1].expand(x.shape),
    "one channel": lambda x: x[:, :1].expand(x.shape),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_replays_match_eager_steps_in_every_layout(name):
    def networks(seed):
        torch.manual_seed(seed)
        generator = nn.Sequential(nn.Linear(4, 32), nn.Unflatten(1, (2, 4, 4)))
        return generator, nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 1)
        )

    options = {"networks": networks, "noise": 0.1, "penalties": penalties.R1(1.0)}
    eager, replayed = (setup(**copy.deepcopy(options)) for _ in range(2))
    given = [LAYOUTS[name](torch.randn(6, 2, 4, 4)) for _ in range(8)]
    tapes = capture(replayed, given[0])
    for x in given:
        assert_same(replayed.step(x), eager.step(x))
    assert tapes.replays == 7
    assert_same(state(replayed), state(eager))


def test_totals_of_several_steps():
    replayed = setup(d_steps=2)
    tapes = capture(replayed, [batch(0), batch(1)])
    for total in (None, 12, [12, 12], (12, None)):
        replayed.step([batch(2), batch(3)], total=total)
    assert tapes.replays == 2  # the first creates the states; the last has unequal totals
    with pytest.raises(ValueError, match="total must be the batch's 12 samples"):
        replayed.step([batch(2), batch(3)], total=13)


def test_other_methods_between_captured_steps():
    options = {"penalties": penalties.R1(1.0, every=3), "ema": 0.9, "noise": 0.1}
    eager, replayed, tapes = pair(**options)
    for i in range(12):
        for trainer in (eager, replayed):
            if i % 3 == 2:
                trainer.discriminator_step(batch(i))
                trainer.generator_step(12)
            elif i == 6:
                trainer.sample(4)
            trainer.step(batch(i), total=12)
        assert_same(state(replayed), state(eager))
    assert tapes.replays == 11


def test_loaded_states_reach_the_graphs():
    options = {
        **{"penalties": [penalties.R1(1.0, every=2), penalties.LeCam(0.3)], "ema": 0.9},
        "noise": schedules.Adaptive(0.0, 0.5, steps=20, start=0.2),
    }
    source = setup(seed=5, **copy.deepcopy(options))
    for i in range(7):
        source.noise.step(source.step(batch(i)).real_sign)
    saved = copy.deepcopy(source.state_dict())
    eager, replayed, tapes = pair(**options)
    for i in range(3):
        replayed.step(batch(50 + i))
    for trainer in (eager, replayed):
        trainer.load_state_dict(copy.deepcopy(saved))
    for i in range(10):
        assert_same(replayed.step(batch(i)), eager.step(batch(i)))
    assert tapes.replays == 2 + 10
    assert_same(state(replayed), state(eager))


def test_a_state_that_is_loaded_before_the_first_step():
    source = setup(seed=5)
    for i in range(3):
        source.step(batch(i))
    eager, replayed, tapes = pair()
    for trainer in (eager, replayed):
        trainer.load_state_dict(copy.deepcopy(source.state_dict()))
        for i in range(5):
            trainer.step(batch(i))
    assert tapes.replays == 5
    assert_same(state(replayed), state(eager))


def test_capture_during_training_and_again():
    options = {"penalties": penalties.R1(schedules.Linear(1.0, 0.1, 9), every=2), "ema": 0.9}
    eager, replayed = (setup(**copy.deepcopy(options)) for _ in range(2))
    replays = 0
    for i in range(24):
        if i in (4, 13):
            tapes = capture(replayed, batch(99))
        if i == 10:
            replays += tapes.replays
            replayed.release()
        assert_same(replayed.step(batch(i)), eager.step(batch(i)))
        assert_same(state(replayed), state(eager))
    assert (replays, tapes.replays) == (6, 11)


def test_gradients_of_the_last_phases():
    eager, replayed, _ = pair(penalties=penalties.R1(1.0, every=2))
    for i in range(8):
        for trainer in (eager, replayed):
            trainer.step(batch(i))
        for a, b in zip(eager.discriminator.parameters(), replayed.discriminator.parameters()):
            assert_same(a.grad, b.grad)


@pytest.mark.parametrize("clip", [None, 0.1])
def test_a_scaler_with_fused_optimizers(clip):
    """It starts with a scale for which gradients overflow, and skips updates on the device."""

    def options():
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126, growth_interval=5)
        return {"scaler": scaler, "max_grad_norm": clip, "weights": 1000.0}

    eager, replayed = setup(**options()), setup(**options())
    before = state(replayed)
    tapes = capture(replayed, batch(99))
    assert_same(state(replayed), before)
    for i in range(30):
        assert_same(replayed.step(batch(i)), eager.step(batch(i)))
    assert tapes.replays == 29
    assert 0.0 < replayed.scaler.get_scale() < 2.0**126
    assert_same(state(replayed), state(eager))


def test_replays_match_eager_steps_under_autocast():
    eager, replayed = setup(noise=0.1), setup(noise=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        tapes = capture(replayed, batch(99))
        for i in range(10):
            assert_same(replayed.step(batch(i)), eager.step(batch(i)))
    assert tapes.replays == 9
    assert_same(state(replayed), state(eager))


def test_replays_match_eager_steps_in_float64():
    def networks(seed):
        torch.manual_seed(seed)
        return nn.Linear(4, 6).double(), nn.Linear(6, 1).double()

    gamma = penalties.R1(schedules.Cosine(1.0, 0.1, 20))
    adam = of("Adam", capturable=True, foreach=True)
    eager, replayed = (
        setup(networks=networks, penalties=copy.deepcopy(gamma), optimizer=adam) for _ in range(2)
    )
    capture(replayed, batch(99).double())
    for i in range(20):
        assert_same(replayed.step(batch(i).double()), eager.step(batch(i).double()))
    assert_same(replayed.state_dict(), eager.state_dict())


def test_returned_statistics_and_samples_do_not_change():
    trainer = setup(noise=0.1)
    capture(trainer, batch(99))
    trainer.step(batch(0))
    kept = [(trainer.step(batch(i)), trainer.fake, trainer.real) for i in range(5)]
    then = copy.deepcopy(kept)
    for i in range(5):
        trainer.step(batch(10 + i))
    assert_same(kept, then)


def test_capture_on_the_cpu_has_no_effect():
    trainer = setup()
    before = state(trainer)
    assert trainer.capture(batch(0)) is False
    assert_same(state(trainer), before)
    assert trainer._captured is None
    trainer.step(batch(0))
    trainer.release()
    with pytest.raises(ValueError, match="real must be a non-empty batch"):
        trainer.capture(batch(0, 0))
