"""The monitor on conditional runs: a generator that obeys its labels and ignores its latent."""

import pytest
import torch
import torch.nn.functional as F
from helpers.monitor import EVERY, WINDOW, adam, mlp
from torch import nn

import pygan
from pygan.monitor import Monitor, State
from pygan.monitor.reading import COLUMNS, STATS, Reading
from pygan.penalties import R1, R2

SEEDS = range(3)


@pytest.fixture(autouse=True)
def one_thread(restore):
    torch.set_num_threads(1)


class Conditional(nn.Module):
    """A network whose input is joined with the label's one-hot vector."""

    def __init__(self, network, ignores_input=False):
        super().__init__()
        self.network, self.ignores_input = network, ignores_input

    def forward(self, x, labels):
        x = torch.zeros_like(x) if self.ignores_input else x
        return self.network(torch.cat([x, F.one_hot(labels, 10).float()], 1))


def labeled_digits():
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 8 - 1
    return images, torch.tensor(digits.target)


def train_conditionally(seed, steps, ignores_latent):
    torch.manual_seed(seed)
    G = Conditional(nn.Sequential(mlp(18, 64), nn.Tanh()), ignores_latent)
    D = Conditional(mlp(74, 1, activation=lambda: nn.LeakyReLU(0.2)))
    trainer = pygan.GANTrainer(
        G,
        D,
        adam(G, 1e-3),
        adam(D, 1e-3),
        latent=8,
        seed=seed,
        loss="relativistic",
        penalties=[R1(1.0), R2(1.0)],
    )
    monitor = Monitor(trainer, every=EVERY, window=WINDOW)
    images, labels = labeled_digits()
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(steps):
        chosen = torch.randint(len(images), (64,), generator=generator)
        found += monitor.update(trainer.step(images[chosen], labels[chosen]))
    return found, monitor


@pytest.mark.parametrize("seed", SEEDS)
def test_a_generator_that_obeys_its_label_and_ignores_its_latent(seed):
    (diagnosis,), monitor = train_conditionally(seed, 400, ignores_latent=True)
    assert diagnosis.state is State.COLLAPSE_WITHIN_LABELS
    assert diagnosis.numbers["fake_number"] == pytest.approx(1)
    assert diagnosis.numbers["real_number"] > 5
    assert "with the same label are as diverse as 1.0 distinct samples" in diagnosis.evidence
    assert str(diagnosis).startswith(
        f"step {diagnosis.step}: collapse within labels: The generated"
    )
    assert "uses its latent" in diagnosis.remedy
    # Its batches look right as a whole: ten digits.
    assert monitor._window.mean("energy") < 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_healthy_conditional_runs_raise_no_alarm(seed):
    found, monitor = train_conditionally(seed, 400, ignores_latent=False)
    assert found == []
    assert monitor._window.diversity("label_") > 0.3


def test_a_state_of_an_earlier_version_without_labels_is_loaded():
    """Its rows have three columns less; the measures of its steps are unknown."""
    found, monitor = train_conditionally(0, 2 * WINDOW * EVERY, ignores_latent=True)
    assert found == []
    state = monitor.state_dict()
    state["window"]["rows"] = state["window"]["rows"][:, :-3]
    del state["window"]["best_label_diversity"]
    coming = Reading([999], [[0.0] * len(STATS)], [1.0] * 7, [])
    state["coming"] = [coming._asdict()]
    again = Monitor(monitor.trainer, every=EVERY, window=WINDOW)
    again.load_state_dict(state)
    before, after = monitor._window, again._window
    assert after.mean("energy") == before.mean("energy")
    assert torch.tensor(after.mean("label_energy")).isnan()
    assert len(again._in_transfer[0].row()) == len(COLUMNS)
