"""GANTrainer.capture refuses steps whose replays would repeat outdated values, without side effects.

For each refusal, a second test proves that it is necessary: captured on a tape anyway, the step trains differently."""

import copy
import random
from functools import partial
from unittest import mock

import numpy as np
import pytest
import torch
from helpers.capture import capturable_on_the_cpu, capture, fused_adam, setup
from helpers.trainer import assert_same
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import pygan
from pygan import _capture, penalties, schedules

X = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def capturable():
    with capturable_on_the_cpu():
        yield


def state(trainer):
    grads = [p.grad for net in (trainer.generator, trainer.discriminator) for p in net.parameters()]
    return copy.deepcopy((trainer.state_dict(), grads, torch.get_rng_state(), trainer.fake))


def first_layer(layer):
    """Networks whose discriminator begins with this layer."""

    def networks(seed):
        torch.manual_seed(seed)
        return nn.Linear(4, 6), nn.Sequential(layer(), nn.Linear(6, 1))

    return {"networks": networks}


# --- planted: each trains otherwise where it is captured all the same ---------------------------------


class HostCounter(torch.optim.Optimizer):
    """Bias correction with a Python counter."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 2.0**-6})
        self.t = 0

    @torch.no_grad()
    def step(self, closure=None):
        self.t += 1
        for p in self.param_groups[0]["params"]:
            average = self.state[p].setdefault("average", torch.zeros_like(p))
            average.lerp_(p.grad, 0.1)
            p.sub_(average * self.param_groups[0]["lr"] / (1 - 0.9**self.t))


class Recreated(nn.Module):
    """A buffer, or a plain tensor, that is replaced in each pass."""

    def __init__(self, is_buffer=True):
        super().__init__()
        if is_buffer:
            self.register_buffer("count", torch.zeros(()))
        else:
            self.count = torch.zeros(())

    def forward(self, x):
        self.count = self.count + 0.1
        return x * self.count


class Counting(nn.Module):
    """A Python number that changes, and occasionally has an effect."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return -x if self.calls > 40 else x


def of_steps(make):
    """Options that read the trainer's step count."""

    def options():
        holder = []
        given = make(lambda: holder[0].steps)
        return given, holder.append

    return options


def plain(**given):
    return lambda: (dict(given), lambda trainer: None)


def with_counter():
    calls = 0

    def augment(x):
        nonlocal calls
        calls += 1
        return x * (1.0 if calls < 40 else 0.5)

    return {"augment": augment}, lambda trainer: None


ramp = schedules.Linear(1.0, 0.1, steps=20)
PLANTED = {
    "schedule on the host": (
        of_steps(lambda steps: {"augment": lambda x: x * ramp.value(steps())}),
        r"not depend on Python numbers that change.*then with",
    ),
    "from some step on": (
        of_steps(lambda steps: {"augment": lambda x: x if steps() < 5 else 2 * x}),
        "make the same calls each time",
    ),
    "every third step": (
        of_steps(lambda steps: {"augment": lambda x: 2 * x if steps() % 3 == 0 else x}),
        "make the same calls each time",
    ),
    "random number of the host": (
        plain(augment=lambda x: x + random.random()),
        "not depend on Python numbers that change",
    ),
    "made of a number": (
        of_steps(lambda steps: {"augment": lambda x: x + torch.tensor(0.1 * steps())}),
        "not depend on Python numbers that change",
    ),
    "made of numbers": (
        of_steps(lambda steps: {"augment": lambda x: x + torch.tensor([0.1 * steps()])}),
        "not create tensors from Python numbers",
    ),
    "count in the optimizer": (
        plain(optimizer=HostCounter),
        "not depend on Python numbers that change",
    ),
    "new buffer": (plain(**first_layer(Recreated)), "keep its tensors and change them in place"),
    "new attribute": (
        plain(**first_layer(partial(Recreated, False))),
        "keep its tensors and change them in place",
    ),
    "count in a module": (plain(**first_layer(Counting)), r"a new discriminator\.0\.calls"),
    "count in a function": (with_counter, r"a new augment\(\)\.calls"),
    "Adam without capturable": (
        plain(optimizer=lambda p: torch.optim.Adam(p, lr=2.0**-6)),
        "g_optimizer must be created with capturable=True.*got Adam without it",
    ),
}


def made(name):
    given, tell = PLANTED[name][0]()
    random.seed(0)
    trainer = setup(**given)
    tell(trainer)
    return trainer


@pytest.mark.parametrize("name", PLANTED)
def test_unsafe_steps_are_refused(name):
    trainer = made(name)
    trainer.step(X)
    before = state(trainer)
    with pytest.raises(RuntimeError, match=r"GANTrainer\.capture: .*" + PLANTED[name][1]):
        capture(trainer, X)
    assert_same(state(trainer), before)
    assert trainer._captured is None


class NoAudit(TorchDispatchMode):
    def __init__(self, device, like=None):
        super().__init__()
        self.written = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", PLANTED)
def test_unsafe_steps_would_train_differently(name):
    eager, replayed = made(name), made(name)
    with (
        mock.patch.object(_capture, "OpAudit", NoAudit),
        mock.patch.object(_capture.CapturedSteps, "_check_unmoved"),
        mock.patch.object(_capture.CapturedSteps, "_check_unchanged"),
        mock.patch("pygan._capture_optimizer.check_capturable"),
    ):
        capture(replayed, X)
        for trainer in (eager, replayed):
            random.seed(0)
            for _ in range(30):
                trainer.step(X)
    pairs = zip(eager.discriminator.parameters(), replayed.discriminator.parameters())
    assert not all(torch.equal(a, b) for a, b in pairs)


# --- refused ------------------------------------------------------------------------------------------


def drawn(n, generator=torch.Generator().manual_seed(0)):  # noqa: B008
    return torch.randn(n, 4, generator=generator)


def host_steps(step):
    return {"l2": step.steps * step.fake.square().mean()}


class OwnPenalty(penalties.Penalty):
    def value(self, real, fake, probe, step):
        return (1.0 if step < 10 else 0.1) * fake.logits.square().mean()


kept = torch.zeros(())


def keeps(x):
    kept.add_(1)
    return x + 0.0 * kept


def unscaled():
    return {
        "scaler": torch.amp.GradScaler("cpu"),
        "optimizer": lambda p: torch.optim.Adam(p, lr=1e-3, capturable=True),
    }


def torch_average():
    average = torch.optim.swa_utils.AveragedModel(setup().generator)
    return {"ema": average}


REFUSED = {
    "reads a value": (
        lambda: {"augment": lambda x: x * x.max().item()},
        "not read values back to the host",
    ),
    "compares": (
        lambda: {"augment": lambda x: x if x.max() > 0 else 2 * x},
        "not read values back to the host",
    ),
    "selects": (
        lambda: {"augment": lambda x: x + x[x > 0].mean()},
        "not read values back to the host",
    ),
    "host latents": (
        lambda: {"latent": lambda n: torch.from_numpy(np.ones((n, 4), "float32"))},
        "not create tensors from Python numbers",
    ),
    "own generator": (lambda: {"latent": drawn}, "draw from torch's default generators"),
    "steps in terms": (lambda: {"generator_terms": host_steps}, r"GeneratorStep\.steps must not"),
    "step in a penalty": (lambda: {"penalties": OwnPenalty()}, "step must not be used"),
    "a tensor of nobody's": (lambda: {"augment": keeps}, "one that changes another"),
    "scaler, not fused": (
        unscaled,
        "g_optimizer must be created with fused=True if there is a scaler",
    ),
    "average of torch's": (torch_average, "ema must be a pygan.EMA.*got AveragedModel"),
    "SGD, not fused": (
        lambda: {"optimizer": lambda p: torch.optim.SGD(p, lr=1e-3)},
        "g_optimizer must be created with fused=True, because otherwise it keeps its learning rate",
    ),
    "dropout, compared": (
        lambda: {**first_layer(nn.Dropout), "penalties": penalties.R1(1.0, sigma=0.1)},
        "discriminator must not draw random numbers",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_arguments_are_refused(name):
    options, message = REFUSED[name]
    trainer = setup(**options())
    if name == "dropout, compared":  # as shown by a step on CUDA
        trainer._networks.d.draws = True
    before = state(trainer)
    with pytest.raises(RuntimeError, match=r"GANTrainer\.capture: .*" + message):
        capture(trainer, X)
    assert_same(state(trainer), before)


def test_several_processes_are_refused(monkeypatch):
    trainer = setup()
    monkeypatch.setattr(type(trainer._networks), "is_parallel", True)
    with pytest.raises(RuntimeError, match="networks must be trained by a single process"):
        capture(trainer, X)


@pytest.mark.parametrize("name", ["noise", "ema", "discriminator"])
def test_several_devices_are_refused(name):
    trainer = setup(noise=0.1, ema=0.9)
    getattr(trainer, name).to("meta")
    with pytest.raises(RuntimeError, match="must be on one device, got cpu, meta"):
        capture(trainer, X)


def test_graphs_of_compiled_networks_are_refused():
    trainer = setup()
    forward = trainer.generator.forward
    trainer.generator.forward = lambda x: forward(x)
    trainer.generator.forward.get_compiler_config = lambda: {"triton.cudagraphs": True}
    with pytest.raises(RuntimeError, match="generator must be compiled without CUDA graphs"):
        capture(trainer, X)


def test_update_if_is_refused():
    trainer = setup()
    trainer.update_if = lambda parameters: True
    with pytest.raises(RuntimeError, match="update_if must be None"):
        capture(trainer, X)
    trainer.update_if = None
    capture(trainer, X)
    trainer.step(X)
    trainer.update_if = lambda parameters: True
    with pytest.raises(RuntimeError, match="update_if must be None"):
        trainer.step(X)


# --- changed after the capture ------------------------------------------------------------------------


def option(trainer, **values):
    trainer.d_optimizer.param_groups[0].update(values)


CHANGED = {
    "betas": (lambda t: option(t, betas=(0.9, 0.9)), "d_optimizer, betas"),
    "weight decay": (lambda t: option(t, weight_decay=0.1), "d_optimizer, weight_decay"),
    "parameter groups": (
        lambda t: t.g_optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(3))]}),
        "g_optimizer, number of groups",
    ),
    "layer": (
        lambda t: t.generator.__setitem__(2, nn.Sigmoid()),
        r"generator\.2",
    ),
    "mode": (lambda t: t.generator.eval(), r"generator\.0\.training"),
    "momentum of BatchNorm": (
        lambda t: setattr(t.generator[1], "momentum", 0.2),
        r"generator\.1\.momentum",
    ),
    "frozen layer": (
        lambda t: t.generator[0].requires_grad_(False),
        r"generator\.0\.weight\.requires_grad",
    ),
    "data": (
        lambda t: setattr(t.generator[0].weight, "data", torch.zeros(8, 4)),
        r"address of generator\.0\.weight",
    ),
    "clipping": (lambda t: setattr(t, "max_grad_norm", 1.0), "GANTrainer.max_grad_norm"),
    "loss": (lambda t: setattr(t, "loss", "hinge"), "GANTrainer.loss"),
    "noise": (lambda t: setattr(t, "noise", pygan.InstanceNoise(ramp)), "GANTrainer.noise"),
    "average": (lambda t: setattr(t, "ema", pygan.EMA(t.generator, 0.5)), "GANTrainer.ema"),
    "penalties": (lambda t: t.penalties.__setitem__(0, penalties.R1(2.0)), "penalties"),
    "network": (
        lambda t: [
            setattr(t, "discriminator", d := nn.Linear(6, 1)),
            setattr(t, "d_optimizer", fused_adam(d.parameters(), capturable=True)),
        ],
        "discriminator.network",
    ),
}


@pytest.mark.parametrize("name", CHANGED)
def test_changes_after_the_capture_are_refused(name):
    trainer = setup(noise=0.1, ema=0.9, penalties=[penalties.R1(1.0)])
    capture(trainer, X)
    for _ in range(3):
        trainer.step(X)
    change, what = CHANGED[name]
    change(trainer)
    before = state(trainer)
    with pytest.raises(RuntimeError, match="must stay the same, got a new .*" + what):
        trainer.step(X)
    assert_same(state(trainer), before)
    trainer.release()
    trainer.step(X)


limit, steps = 0.5, 0


def helper(x):
    return limit * x.square().mean()


def outer(step):
    terms = [helper(x) for x in (step.fake,)]
    step.terms["steps"] = None  # an attribute with that name, not a variable
    step.terms.clear()
    return {
        "l2": terms[0],
        "bound": (lambda: 0.1 * limit * step.fake.abs().mean())(),
        "z": _z(step),
    }


def _z(step):
    _ = hasattr(step.steps, "real")
    return 0.1 * step.fake.mean()


def test_globals_read_by_a_function():
    global limit, steps
    trainer = setup(generator_terms=outer)
    capture(trainer, X)
    for _ in range(3):
        steps += 1
        trainer.step(X)
    try:
        limit = 0.25
        with pytest.raises(RuntimeError, match=r"a new (generator_terms|helper)\(\)\.limit; call"):
            trainer.step(X)
    finally:
        limit = 0.5
    trainer.step(X)


class Limited(nn.Module):
    def forward(self, x):
        return limit * x


def test_globals_read_by_a_network():
    global limit
    trainer = setup(**first_layer(Limited))
    capture(trainer, X)
    trainer.step(X)
    try:
        limit = 0.25
        with pytest.raises(RuntimeError, match=r"a new discriminator\.0\.forward\(\)\.limit; call"):
            trainer.step(X)
    finally:
        limit = 0.5


def test_closure_variables_read_by_a_function():
    weight = 0.5
    trainer = setup(generator_terms=lambda step: {"l2": weight * step.fake.square().mean()})
    capture(trainer, X)
    for _ in range(2):
        trainer.step(X)
    weight = 0.25
    with pytest.raises(RuntimeError, match=r"a new generator_terms\(\)\.weight; call capture"):
        trainer.step(X)
    capture(trainer, X)
    trainer.step(X)


OTHER = {
    "dtype": X.double(),
    "shape": X[:, :5],
    "strides": X.t().contiguous().t(),
    "gradient": X.clone().requires_grad_(),
    "sequence": [X],
}


@pytest.mark.parametrize("name", OTHER)
def test_other_batches(name):
    trainer = setup()
    capture(trainer, X)
    for _ in range(2):
        trainer.step(X)
    before = state(trainer)
    with pytest.raises(ValueError, match=r"GANTrainer\.step: real and labels must "):
        trainer.step(OTHER[name])
    with pytest.raises(ValueError, match=r"GANTrainer\.step: real and labels must "):
        trainer.step(X, torch.zeros(12))
    assert_same(state(trainer), before)


def test_an_autocast_region_that_was_not_captured():
    trainer = setup()
    capture(trainer, X)
    for _ in range(2):
        trainer.step(X)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError, match="autocast"):
        trainer.step(X)
