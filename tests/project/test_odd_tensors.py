"""Tensors of unusual kinds, given to each public function: what cannot be used is refused in a sentence that names the
argument, not in the words of an op deep inside torch."""

import re
import warnings

import numpy as np
import pytest
import torch
from helpers import accelerated_on, raises
from helpers.fit import Items, data, networks
from torch import nn

import pygan
from pygan import datasets, divergences, fused_losses, metrics, penalties, reference
from pygan.schedules import Adaptive, Constant

pytestmark = pytest.mark.filterwarnings("ignore")


def quantized(x):
    return torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)


def nested(x):
    return torch.nested.nested_tensor(list(x))


def jagged(x):
    return torch.nested.nested_tensor(list(x), layout=torch.jagged)


NOT_DENSE = {
    "quantized": quantized,
    "sparse": torch.Tensor.to_sparse,
    "csr": torch.Tensor.to_sparse_csr,
    "nested": nested,
    "jagged": jagged,
}
if torch.backends.mkldnn.is_available():
    NOT_DENSE["mkldnn"] = torch.Tensor.to_mkldnn
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.complex64, torch.bool, torch.int64, torch.uint16, torch.float8_e5m2)
}
NOT_FLOAT = {name: lambda x, dtype=dtype: x.to(dtype) for name, dtype in DTYPES.items()}
KINDS = {**NOT_DENSE, **NOT_FLOAT}


def ones(*shape):
    return torch.ones(shape)


class Fixed(nn.Module):
    """A network with a fixed output."""

    def __init__(self, output):
        super().__init__()
        self.weight, self.output = nn.Parameter(torch.zeros(())), output

    def forward(self, x):
        return self.output


class Conditional(nn.Module):
    def __init__(self, *sizes):
        super().__init__()
        self.layer = nn.Linear(*sizes)

    def forward(self, x, labels):
        return self.layer(x)


def trainer(G=None, D=None, **options):
    G, D = G or nn.Linear(4, 6), D or nn.Linear(6, 1)
    g, d = (torch.optim.SGD(network.parameters(), lr=0.1) for network in (G, D))
    return pygan.GANTrainer(G, D, g, d, **{"latent": 4, **options})


def noise():
    return pygan.InstanceNoise(Constant(0.1), seed=0)


def conditional():
    return trainer(Conditional(4, 6), Conditional(6, 1))


ANY_LOSS = {
    "discriminator_loss": lambda x: fused_losses.discriminator_loss(ones(8, 1), x),
    "discriminator_loss, a list": lambda x: fused_losses.discriminator_loss([x], [x]),
    "discriminator_loss, unreduced": lambda x: fused_losses.discriminator_loss(
        x, ones(8, 1), loss="relativistic", reduction="none"
    ),
    "discriminator_loss_and_grad": lambda x: fused_losses.discriminator_loss_and_grad(x, x),
    "generator_loss": fused_losses.generator_loss,
    "generator_loss_and_grad": fused_losses.generator_loss_and_grad,
    "real_loss": fused_losses.real_loss,
    "fake_loss": fused_losses.fake_loss,
    "DiscriminatorLoss": lambda x: pygan.DiscriminatorLoss()(x, ones(8, 1)),
    "GeneratorLoss": lambda x: pygan.GeneratorLoss()(x),
    "GANLoss": lambda x: pygan.GANLoss("non_saturating")(x, True),
    "feature_matching": lambda x: fused_losses.feature_matching([ones(8, 1)], [x]),
    "LeCam": lambda x: penalties.LeCam(0.1)(x, ones(8, 1)),
}
FLOAT_ONLY = {name: ((8, 1), call) for name, call in ANY_LOSS.items()} | {
    "instance_noise": ((8, 6), lambda x: pygan.instance_noise(x, 0.1)),
    "instance_noise, same": (
        (8, 6),
        lambda x: pygan.instance_noise([x, ones(8, 6)], 0.1, same_noise=True),
    ),
    "instance_noise, out": ((8, 6), lambda x: pygan.instance_noise(ones(8, 6), 0.1, out=x)),
    "instance_noise_pair": ((8, 6), lambda x: pygan.instance_noise_pair(ones(8, 6), x, 0.1)),
    "InstanceNoise": ((8, 6), lambda x: pygan.InstanceNoise(pygan.schedules.Constant(0.1))(x)),
    "gradient_penalty": (
        (8, 6),
        lambda x: penalties.gradient_penalty(x, ones(8, 1), weight=1.0),
    ),
    "interpolate": ((8, 6), lambda x: penalties.interpolate(ones(8, 6), x)),
    "r1": ((8, 6), lambda x: penalties.r1(x, ones(8, 1), gamma=1.0)),
    "step": ((8, 6), lambda x: trainer().step(x)),
    "step with noise": ((8, 6), lambda x: trainer(noise=0.1).step(x)),
    "step with R1": ((8, 6), lambda x: trainer(penalties=penalties.R1(1.0)).step(x)),
    "joint step": ((8, 6), lambda x: trainer(joint=True).step(x)),
    "discriminator_step": ((8, 6), lambda x: trainer().discriminator_step(x)),
    "generator_step": ((8, 6), lambda x: trainer(loss="relativistic").generator_step(8, x)),
    "sample": ((8, 4), lambda x: trainer().sample(8, latent=x)),
    "latent": ((8, 4), lambda x: trainer(latent=lambda n: x).step(ones(8, 6))),
    "generator's output": ((8, 6), lambda x: trainer(G=Fixed(x)).step(ones(8, 6))),
    "discriminator's output": ((8, 1), lambda x: trainer(D=Fixed(x)).step(ones(8, 6))),
    "augment": ((8, 6), lambda x: trainer(augment=lambda _: x).step(ones(8, 6))),
}
OF_ANY_DTYPE = {
    "labels": ((8, 2), lambda x: conditional().step(ones(8, 6), x)),
    "sample's labels": ((8, 2), lambda x: conditional().sample(8, x)),
    "InstanceNoise.pair": ((8, 6), lambda x: noise().pair(x, x)),
    "reference.generator_loss": ((8, 1), reference.generator_loss),
    "reference.feature_matching": ((8, 6), lambda x: reference.feature_matching([x], [x])),
    "reference.instance_noise": (
        (8, 6),
        lambda x: reference.instance_noise(x, 0.1, seed=0, step=0),
    ),
    "FakePool": ((8, 6), lambda x: pygan.FakePool(16)(x)),
    "FakePool's labels": ((8, 2), lambda x: pygan.FakePool(16)(ones(8, 6), x)),
    "frechet_distance": ((8, 2), lambda x: metrics.frechet_distance(ones(8, 2), x)),
    "precision_recall": ((8, 2), lambda x: metrics.precision_recall(x, ones(8, 2))),
    "mode_coverage": ((8, 2), lambda x: metrics.mode_coverage(x, datasets.RING)),
}
# A name of ours, the argument, and what it must be.
OURS = re.compile(r"[\w.]+(\(\))?: [^:]*\bmust\b", re.DOTALL)


def explains(error):
    return OURS.match(str(error)) and isinstance(error, (TypeError, ValueError))


def refused(call, shape, kinds):
    for name, make in kinds.items():
        with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
            call(make(ones(*shape)))
        assert explains(caught.value), f"{name}: {caught.value}"


@pytest.mark.parametrize("name", FLOAT_ONLY)
def test_tensors_that_are_not_dense_and_floating_are_refused(name):
    shape, call = FLOAT_ONLY[name]
    refused(call, shape, KINDS)


@pytest.mark.parametrize("name", OF_ANY_DTYPE)
def test_tensors_that_are_not_dense_are_refused(name):
    shape, call = OF_ANY_DTYPE[name]
    refused(call, shape, NOT_DENSE)


@pytest.mark.parametrize("call", [divergences.kl, divergences.optimal_discriminator])
def test_densities_of_odd_kinds_are_refused(call):
    refused(lambda x: call(x, ones(5, 5)), (5, 5), KINDS)
    refused(lambda x: call(ones(5, 5), x), (5, 5), {**KINDS, "meta": lambda x: x.to("meta")})


def test_a_sign_of_an_odd_kind_is_refused():
    kinds = {
        name: make
        for name, make in KINDS.items()
        if name not in ("csr", "nested", "jagged", "mkldnn")
    }
    refused(Adaptive(0.1, 1.0, steps=4).step, (), kinds)


def test_metrics_of_tensors_without_values_are_refused():
    for name in ("frechet_distance", "precision_recall", "mode_coverage"):
        shape, call = OF_ANY_DTYPE[name]
        refused(call, shape, {"meta": lambda x: x.to("meta")})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.uint8, torch.complex64])
def test_samples_of_another_dtype_than_the_networks_are_explained(dtype):
    with pytest.raises(
        TypeError,
        match=r"GANTrainer: real and generated samples must have the dtype of the discriminator's parameters, "
        rf"torch\.float32, or one that it converts, got {dtype} \(mat1",
    ):
        trainer().step(ones(8, 6).to(dtype))


def test_samples_on_another_device_than_the_networks_are_explained():
    with pytest.raises(TypeError, match="must have the device of the discriminator's parameters"):
        trainer().step(torch.ones(8, 6, device="meta"))


def test_numbers_that_are_durations_are_refused():
    with raises(TypeError, "pygan.instance_noise: sigma must be a number, got timedelta64"):
        pygan.instance_noise(ones(2), np.timedelta64(3, "D"))


def test_joint_batches_must_be_on_one_device():
    with raises(
        ValueError,
        "GANTrainer: real must be on the generated samples' device, cpu, with joint=True, got meta",
    ):
        trainer(joint=True).step(ones(8, 6).to("meta"))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.bool, torch.complex64])
def test_labels_of_a_dtype_that_a_network_does_not_take_are_explained(dtype):
    class Embeds(nn.Embedding):
        def forward(self, z, labels):
            return super().forward(labels["class"])

    with raises(
        TypeError,
        "GANTrainer: labels must have the dtype of the generator's parameters, torch.float32, or one that it "
        f"converts, got {dtype} (Expected tensor for argument #1 'indices'",
    ):
        trainer(Embeds(4, 6), Conditional(6, 1)).step(ones(8, 6), {"class": ones(8).to(dtype)})


def test_a_weight_of_an_odd_dtype_is_refused():
    """A complex one multiplied the loss."""
    with raises(
        TypeError, "GANTrainer: adversarial_weight's result must be float32, ", "complex64"
    ):
        weight = torch.ones((), dtype=torch.complex64)
        trainer(adversarial_weight=lambda step: weight).step(ones(8, 6))


def test_a_discriminator_may_convert_its_samples():
    class Converts(nn.Linear):
        def forward(self, x):
            return super().forward(x.float())

    stats = trainer(D=Converts(6, 1)).step(torch.ones(8, 6, dtype=torch.uint8))
    assert stats.d_loss.isfinite()


def test_a_number_must_not_be_a_tensor_of_an_odd_kind():
    refused(lambda x: penalties.r1(ones(8, 6), ones(8, 1), gamma=x), (8, 6), KINDS)


def test_other_errors_of_a_network_are_raised_unchanged():
    with pytest.raises(RuntimeError, match=r"^mat1 and mat2 shapes cannot be multiplied"):
        trainer().step(ones(8, 5))


def fit(source, out, **options):
    G, D = networks()
    g, d = (torch.optim.SGD(network.parameters(), lr=0.1) for network in (G, D))
    with accelerated_on("cpu"), warnings.catch_warnings():
        return pygan.fit(
            *(G, D, source),
            **{"g_optimizer": g, "d_optimizer": d, "latent": 4, "steps": 1, "batch_size": 8},
            **{"out": out, "sample_every": None, "tensorboard": False, **options},
        )


ARRAYS = ["longdouble", "complex256", "datetime64[s]", "U3", "S3", "object", [("a", "f4")]]


@pytest.mark.parametrize("dtype", ARRAYS, ids=str)
@pytest.mark.parametrize("labels", [False, True])
def test_arrays_whose_dtype_torch_lacks_are_refused(tmp_path, dtype, labels):
    array = np.zeros((30, 6), dtype)
    with pytest.raises(TypeError, match=r"pygan\.fit: data must, if arrays, have a dtype that"):
        fit((data(), array[:, 0]) if labels else array, tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", [*NOT_DENSE, "meta"])
def test_data_that_are_not_dense_or_have_no_values_are_refused(tmp_path, name):
    x = data().to("meta") if name == "meta" else NOT_DENSE[name](data())
    sources = [x, (data(), x[:, 0] if name == "meta" else x)]
    if name in ("sparse", "quantized", "meta"):
        sources.append(Items(x))
    for source in sources:
        with pytest.raises(
            TypeError, match=r"pygan\.fit: data must (be a dense tensor|have values)"
        ):
            fit(source, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_data_of_another_dtype_than_the_networks_are_explained(tmp_path):
    for dtype in (torch.complex64, torch.float16, torch.float8_e5m2):
        with pytest.raises(TypeError, match=r"GANTrainer: real and generated samples must have"):
            fit(data().to(dtype), tmp_path / str(dtype))
