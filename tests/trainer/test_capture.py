"""GANTrainer.capture: replays are bitwise equal to eager steps, and the capture has no side effects.

Without a GPU, a tape of the step's ops replaces the CUDA graph: no Python code runs in a replay, and between two
replays all results of the first are overwritten."""

import copy

import pytest
import torch
from helpers import DEVICES
from helpers.capture import capturable_on_the_cpu, capture, fused_adam, setup
from torch import nn

import pygan
from pygan import penalties, schedules

STEPS = 50


def batch(i, n=12, shape=(6,), device="cpu"):
    x = torch.randn(n, *shape, generator=torch.Generator().manual_seed(i))
    return x.to(device)


def scales(seed):
    torch.manual_seed(seed)

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (
                nn.Linear(6, 1),
                nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)),
            )

        def forward(self, x):
            return [self.a(x), self.b(x)]

    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6)), Two()


def dropping(seed):
    torch.manual_seed(seed)
    generator = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 6))
    return generator, nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 1))


def normed(seed):
    torch.manual_seed(seed)
    old, new = nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm
    generator = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 8)), nn.ReLU(), nn.Linear(8, 6))
    return generator, nn.Sequential(old(nn.Linear(6, 8)), nn.ReLU(), new(nn.Linear(8, 1)))


class Conditional(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.embedding, self.body = nn.Embedding(3, n_in), nn.Linear(n_in, n_out)

    def forward(self, x, labels):
        return self.body(x * self.embedding(labels))


def conditional(seed):
    torch.manual_seed(seed)
    return Conditional(4, 6), Conditional(6, 1)


class Own(nn.Module):
    """A loss with a state."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def discriminator_loss(self, real, fake):
        self.mean.lerp_(real.detach().mean(), 0.1)
        return (fake - self.mean).square().mean() - real.mean()

    def generator_loss(self, fake):
        return (self.mean - fake).square().mean()


def drawn(n):
    return torch.rand(n, 4, device=drawn.device)


def distances(step):
    return {"l1": 0.1 * (step.fake - step.real).abs().mean(), "l2": step.fake.square().mean()}


def balanced(step):
    return 0.5 + 0.1 * penalties.adaptive_weight(step.terms["l1"], step.g_loss, step.fake)


class Translator(nn.Module):
    """From a condition to samples and an additional loss."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(5, 6)

    def forward(self, labels):
        made = self.body(torch.cat([labels["a"], labels["b"]], 1))
        return made, made.square().mean()


class Translated(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(11, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, x, labels):
        features = self.body(torch.cat([x, labels["a"], labels["b"]], 1))
        return {"logits": features[:, :1], "features": features}


def translating(seed):
    torch.manual_seed(seed)
    return Translator(), Translated()


def judges(seed):
    torch.manual_seed(seed)
    d = [nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1)) for _ in range(2)]
    return nn.Linear(4, 6), pygan.Discriminators(*d)


OPTIONS = {
    "plain": {},
    "noise": {"noise": 0.1},
    "annealed noise": {"noise": schedules.Linear(0.5, 0.1, steps=30)},
    "adaptive noise": {"noise": schedules.Adaptive(0.0, 0.5, steps=20, start=0.2)},
    "mixture": {"noise": schedules.DiffusionMixture(9)},
    "R1": {"penalties": penalties.R1(1.0)},
    "R1, scheduled": {"penalties": penalties.R1(schedules.Cosine(1.0, 0.1, 40))},
    "R1 and R2, lazy": {"penalties": [penalties.R1(1.0, every=4), penalties.R2(2.0, every=3)]},
    "R1 sigma": {
        "penalties": [
            penalties.R1(1.0, sigma=0.1),
            penalties.R2(schedules.Linear(1.0, 0.0, 30), sigma=0.1),
        ]
    },
    "gradient penalty": {"penalties": penalties.GradientPenalty(every=2), "loss": "wasserstein"},
    "LeCam": {"penalties": penalties.LeCam(0.3, every=2), "loss": "hinge"},
    "average": {"ema": 0.9},
    "micro-batches": {"micro_batches": 3, "penalties": penalties.R1(1.0)},
    "clipped": {"max_grad_norm": 0.1},
    "two steps of D": {"d_steps": 2, "penalties": penalties.R1(1.0, every=3)},
    "reused samples": {"reuse_fakes": True, "noise": 0.1},
    "relativistic": {"loss": "relativistic", "penalties": [penalties.R1(1.0), penalties.R2(1.0)]},
    "relativistic average": {"loss": "relativistic_average", "noise": 0.1},
    "weights": {"weights": [1.0, 0.5], "networks": scales},
    "dropout": {"networks": dropping, "noise": 0.1},
    "normalized": {"networks": normed, "penalties": penalties.R1(1.0), "ema": 0.9},
    "normalized, sigma": {"networks": normed, "penalties": penalties.R1(1.0, sigma=0.1)},
    "labels": {"networks": conditional, "penalties": penalties.R1(1.0, every=2)},
    "own loss": {"loss": Own()},
    "terms": {"generator_terms": distances},
    "weight": {"adversarial_weight": 0.5, "loss": "hinge"},
    "scheduled weight": {"adversarial_weight": schedules.Linear(1.0, 0.1, 30)},
    "weight of a tensor": {"adversarial_weight": torch.tensor(0.3)},
    "balanced weight": {"adversarial_weight": balanced, "generator_terms": distances},
    "late start": {
        **{"discriminator_start": 20, "generator_terms": distances},
        **{
            "penalties": penalties.R1(1.0, every=3),
            "adversarial_weight": schedules.Linear(1.0, 0.1, 30),
        },
    },
    "joint": {
        "joint": True,
        "noise": 0.1,
        "penalties": [penalties.R1(1.0), penalties.R2(1.0)],
        "networks": dropping,
    },
    "separate": {
        "separate": True,
        "noise": 0.1,
        "penalties": [penalties.R1(1.0, every=2), penalties.GradientPenalty()],
    },
    "translation": {
        **{"networks": translating, "latent": None, "generated": lambda output: output[0]},
        **{"logits": lambda output: output["logits"], "reuse_fakes": True},
        "generator_terms": lambda step: {"own": step.output[1], **distances(step)},
    },
    "several discriminators": {"networks": judges, "weights": [1.0, 0.5], "micro_batches": 2},
    "pool": {"pool": pygan.FakePool(30, seed=2), "noise": 0.1},
    "pool with labels": {
        **{"pool": pygan.FakePool(30, seed=2), "networks": conditional, "micro_batches": 2},
        "penalties": penalties.R1(1.0, every=2),
    },
    "augmented": {"augment": lambda x: x + 0.1 * torch.rand_like(x)},
    "callable latents": {"latent": drawn},
    "everything": {
        "noise": schedules.Adaptive(0.0, 0.5, steps=20, start=0.2),
        "penalties": [penalties.R1(schedules.Cosine(1.0, 0.1, 40), every=2), penalties.LeCam(0.3)],
        **{"ema": 0.9, "max_grad_norm": 1.0, "reuse_fakes": True, "label_smoothing": 0.1},
    },
}


def labels_for(trainer, i, n=12):
    if isinstance(trainer.generator, Translator):
        place = trainer._networks.g.device
        return {"a": batch(i + 5000, n, (2,), place), "b": batch(i + 6000, n, (3,), place)}
    if isinstance(trainer.generator, Conditional):
        return (torch.arange(n, device=trainer._networks.g.device) + i) % 3
    return None


def step(trainer, i, n=12):
    """A step on batch i as in a training loop, and all its results."""
    device = trainer._networks.g.device
    batches = [batch(i + 1000 * k, n, device=device) for k in range(trainer.d_steps)]
    stats = trainer.step(batches if trainer.d_steps > 1 else batches[0], labels_for(trainer, i, n))
    if trainer.noise is not None:
        trainer.noise.step(stats.real_sign)
    return stats


def captured(trainer):
    batches = [batch(7 + k, device=trainer._networks.g.device) for k in range(trainer.d_steps)]
    labels = labels_for(trainer, 7)
    return capture(trainer, batches if trainer.d_steps > 1 else batches[0], labels)


def state(trainer):
    grads = [p.grad for net in (trainer.generator, trainer.discriminator) for p in net.parameters()]
    return copy.deepcopy(
        (
            trainer.state_dict(),
            grads,
            torch.get_rng_state(),
            trainer.fake,
            trainer.real,
            trainer.labels,
        )
    )


def assert_equal(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.fixture(autouse=True)
def capturable():
    with capturable_on_the_cpu():
        yield


def trainer_of(name, device):
    options = copy.deepcopy(OPTIONS[name])
    if name == "weight of a tensor":
        options["adversarial_weight"] = options["adversarial_weight"].to(device)

    def adam(parameters):  # its rate a tensor, as that of replays is
        rate = torch.tensor(2.0**-6, device=device)
        return fused_adam(parameters, lr=rate, capturable=True)

    return setup(adam, device=device, **options)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", OPTIONS)
def test_replays_equal_eager_steps(name, device):
    drawn.device = device
    eager, replayed = (trainer_of(name, device) for _ in range(2))
    torch.manual_seed(1)
    before = state(replayed)
    tapes = captured(replayed)
    assert_equal(state(replayed), before)
    everything, kept = [], []
    for trainer, all_stats in ((eager, everything), (replayed, kept)):
        torch.manual_seed(1)
        all_stats += [step(trainer, i) for i in range(STEPS)]
    # The first step of each network creates its optimizer's state, and three steps fill the pool.
    first = 3 if replayed.pool is not None else 1 + (replayed.discriminator_start > 0)
    assert tapes.replays == STEPS - first
    assert_equal(kept, everything)  # unchanged after all the later replays
    assert_equal(state(replayed), state(eager))
