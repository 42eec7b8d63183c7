"""pygan.load_generator: the run's generator, restored from only the checkpoint."""

import pytest
import torch
from helpers import raises
from helpers.fit import FULL, assert_equal, data, networks, run
from helpers.result import trained
from torch import nn

import pygan
from pygan import checkpoint
from pygan.checkpoint import CheckpointError


@pytest.mark.parametrize("name", ["ring", "digits"])
def test_the_generator_of_a_run_is_rebuilt_from_its_checkpoint(name, tmp_path):
    result = trained(name, tmp_path)
    drawn = torch.get_rng_state()
    G = pygan.load_generator(tmp_path)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not any(module.training for module in G.modules())
    assert (G.step, G.averaged, G.conditional, G.classes) == (2, True, False, None)
    assert G.config["data"]["name"] == name
    assert G.latent_shape == (G.config["model"]["latent"],)
    assert G.sample_shape == {"ring": (2,), "digits": (1, 8, 8)}[name]
    z = torch.randn(5, *G.latent_shape)
    expected = result.trainer.sample(5, latent=z) / G.scale  # in the units of the data
    assert_equal(G(z).detach(), expected)
    assert expected.shape[1:] == G.sample_shape
    own = pygan.load_generator(result.checkpoint, average=False)
    assert not own.averaged
    assert_equal(own.module.state_dict(), result.trainer.generator.state_dict())


def test_points_are_in_the_units_of_the_data(tmp_path):
    result = trained("ring", tmp_path, "data.scale=0.5")
    z = torch.randn(5, 2)
    G = pygan.load_generator(tmp_path)
    assert G.scale == 0.5
    assert_equal(G(z).detach(), result.trainer.sample(5, latent=z) * 2)


def test_custom_networks_are_passed(tmp_path):
    result = run(tmp_path, **FULL, config=(config := {"data": {"scale": 0.5}}))
    with raises(
        ValueError,
        "pygan.load_generator: generator must be given, built as for the run",
        "; in Python: pygan.load_generator(run, generator=Generator())",
    ):
        pygan.load_generator(tmp_path)
    G = pygan.load_generator(tmp_path, generator=networks(9)[0])
    assert (G.latent_shape, G.sample_shape, G.step, G.config) == ((4,), (6,), 12, config)
    z = torch.randn(5, 4)
    assert_equal(G(z).detach(), result.trainer.sample(5, latent=z))


def test_another_network_is_refused_with_the_parameter_names(tmp_path):
    run(tmp_path)
    other = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 6))
    before = {k: v.clone() for k, v in other.state_dict().items()}
    with raises(
        ValueError,
        f"pygan.load_generator: generator must be the network of {tmp_path}",
        "differs in 0.weight (none for (8, 4)), 0.bias",
        "layers.0.weight ((8, 4) for none) and ",
    ):
        pygan.load_generator(tmp_path, generator=other)
    assert_equal(dict(other.state_dict()), before)
    with raises(TypeError, "pygan.load_generator: generator must be an nn.Module or None, got str"):
        pygan.load_generator(tmp_path, generator="mlp")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("hidden", 3, "mlp() got an unexpected keyword argument 'hidden'"),
        ("width", 5, ".pt: the generator differs in 0.weight ((4, 2) for (5, 2)), "),
    ],
)
def test_a_run_with_networks_of_another_version_is_refused(key, value, reason, tmp_path):
    path = trained("ring", tmp_path).checkpoint
    state = checkpoint.load(path)
    state["config"]["model"][key] = value
    checkpoint.save(path, state)
    with raises(
        ValueError,
        "pygan.load_generator: path must be a run whose [model] describes the networks that were",
        reason,
        "; use the version of pygan that trained it",
    ):
        pygan.load_generator(path)


def test_paths_that_are_not_runs_are_refused(tmp_path):
    with raises(CheckpointError, f"pygan.checkpoint.load: {tmp_path} contains no checkpoint"):
        pygan.load_generator(tmp_path)
    with raises(CheckpointError, "", "none.pt does not exist"):
        pygan.load_generator(tmp_path / "none.pt")
    checkpoint.save(tmp_path / "step-00000001.pt", {"step": 1})
    with raises(CheckpointError, "", "is not a checkpoint of pygan.fit"):
        pygan.load_generator(tmp_path)


def test_a_checkpoint_without_the_shape_of_its_samples_is_refused(tmp_path):
    """As written by earlier versions."""
    path = trained("ring", tmp_path).checkpoint
    state = checkpoint.load(path)
    del state["samples"]
    checkpoint.save(path, state)
    with raises(CheckpointError, "", "does not contain the shape of its samples; resume"):
        pygan.load_generator(path)


def test_samples_use_the_noise_stream_of_their_seed(tmp_path):
    trained("digits", tmp_path)
    G = pygan.load_generator(tmp_path)
    zeros = torch.zeros(10, *G.latent_shape)
    z = pygan.instance_noise(zeros, 1.0, stream=pygan.NoiseStream(7))
    samples = G.sample(10, seed=7)
    torch.testing.assert_close(samples, G(z).detach())
    assert not samples.requires_grad
    for batch_size in (1, 3, 10):
        torch.testing.assert_close(G.sample(10, seed=7, batch_size=batch_size), samples)
    torch.testing.assert_close(G.sample(4, seed=7), samples[:4])
    assert not torch.equal(G.sample(10, seed=8), samples)
    torch.testing.assert_close(G.sample(10, seed=7, truncation=0.5), G(z / 2).detach())
    assert G.sample(10, seed=7, truncation=0).std(0).max() < 1e-6


class Conditional(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.embedding = nn.Linear(4, 6), nn.Embedding(3, 6)

    def forward(self, x, labels):
        return self.layer(x) + self.embedding(labels)


def conditional_run(out, **options):
    D = nn.Sequential(nn.Linear(6, 1))
    pairs = data(), torch.arange(30) % 3
    inputs = {"discriminator_inputs": lambda x, labels: (x,)}
    torch.manual_seed(0)
    return run(out, G=Conditional(), D=D, source=pairs, **inputs, **options)


def test_a_conditional_generator_accepts_labels(tmp_path):
    result = conditional_run(tmp_path, config={"classes": ["cat", "dog", "owl"]})
    G = pygan.load_generator(tmp_path, generator=Conditional())
    assert G.conditional and G.classes == ("cat", "dog", "owl")
    labels, z = torch.tensor([2, 0, 1]), torch.randn(3, 4)
    assert_equal(G(z, labels).detach(), result.trainer.sample(3, labels, latent=z))
    parts = [G.sample(3, labels, seed=1, batch_size=size) for size in (2, 3)]
    torch.testing.assert_close(*parts)
    message = "pygan.TrainedGenerator.sample: labels must be a tensor"
    with raises(
        ValueError,
        message,
        "with the labels of the 3 samples, such as torch.arange(3) % 3, got none",
    ):
        G.sample(3)
    with raises(TypeError, message, "got a list of length 3"):
        G.sample(3, [0, 1, 2])
    with raises(ValueError, "", "labels must hold one for each of the 3 samples, got 2"):
        G.sample(3, labels[:2])
    for wrong in (3, -1):
        with raises(ValueError, "", f"labels must be from 0 to 2, the run's classes, got {wrong}"):
            G.sample(3, torch.tensor([0, wrong, 1]))


def test_invalid_arguments_of_sample_are_refused(tmp_path):
    run(tmp_path / "a")
    G = pygan.load_generator(tmp_path / "a", generator=networks()[0])
    op = "pygan.TrainedGenerator.sample: "
    for given, error, message in (
        ({"truncation": -1.0}, ValueError, "truncation must be finite and at least 0, got -1.0"),
        ({"truncation": "a"}, TypeError, "truncation must be a number"),
        ({"n": 0}, ValueError, "n must be an int of at least 1, got 0"),
        ({"batch_size": 0}, ValueError, "batch_size must be an int of at least 1"),
        ({"labels": torch.zeros(2).long()}, ValueError, "labels must be None for this run"),
    ):
        with raises(error, op + message):
            G.sample(**{"n": 2, **given})
    run(tmp_path / "b", latent=lambda n: torch.rand(n, 4))
    G = pygan.load_generator(tmp_path / "b", generator=networks()[0])
    assert G.latent_shape is None and G(torch.rand(2, 4)).shape == (2, 6)
    with raises(ValueError, op + "the run must have used normal latents"):
        G.sample(2)
