"""R1 and R2 by finite differences, with several logits per sample: functions and classes against the papers'
formulas."""

import pytest
import torch
from helpers import raises
from helpers.sync import NoSync
from helpers.trainer import assert_same, networks
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import pygan
from pygan._forward_replay import check_capture
from pygan.penalties import R1, R2, approximate_r1, approximate_r2, r1
from pygan.schedules import Constant

GAMMA, SIGMA = 0.7, 0.01


class Scales(nn.Module):
    """3 and 2 x 2 logits per sample, as a list; labels shift them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(6, 8), nn.Tanh()).double()
        self.heads = nn.ModuleList([nn.Linear(8, 3), nn.Linear(8, 4)]).double()

    def forward(self, x, labels=0):
        first, second = (head(self.body(x)) for head in self.heads)
        return [first + labels, second.view(-1, 2, 2)]


def samples(n=5):
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def written_out(D, x, z, of):
    """APT sums each sample's logits (it has only one); ARC squares each: a mean over samples of a sum over logits."""
    at, moved = (torch.cat([y.flatten(1) for y in D(each)], 1) for each in (x, x + SIGMA * z))
    difference = moved - at
    by_sample = {
        "sample": difference.sum(1).square(),
        "logit": difference.square().sum(1),
    }[of]
    return GAMMA / 2 * by_sample / SIGMA**2


@pytest.mark.parametrize("of", ["sample", "logit"])
@pytest.mark.parametrize("function", [approximate_r1, approximate_r2])
def test_equals_the_formula_written_out(function, of):
    D, x = Scales(), samples()
    stream, same = (pygan.NoiseStream(3) for _ in range(2))
    z = pygan.instance_noise(torch.zeros_like(x), 1.0, stream=same)
    penalty, output = function(D, x, gamma=GAMMA, sigma=SIGMA, of=of, stream=stream)
    want = written_out(D, x, z, of)
    torch.testing.assert_close(penalty, want.mean())
    torch.testing.assert_close(
        *(
            torch.autograd.grad(p, D.body[0].weight, retain_graph=True)
            for p in (penalty, want.mean())
        )
    )
    assert_same(output, D(x))
    options = {"gamma": GAMMA, "sigma": SIGMA, "of": of, "reduction": "none"}
    by_sample = function(D, x, stream=pygan.NoiseStream(3), **options).penalty
    torch.testing.assert_close(by_sample, want)


@pytest.mark.parametrize("of", ["sample", "logit"])
@pytest.mark.parametrize("side", [R1, R2])
def test_penalty_classes_equal_the_formula_written_out(side, of):
    G, D = networks()[0].double(), Scales()
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.0) for net in (G, D)]
    penalty = side(GAMMA, sigma=SIGMA, of=of)
    trainer = pygan.GANTrainer(G, D, *optimizers, latent=4, seed=1, penalties=penalty)
    draws = pygan.NoiseStream(trainer.stream.seed)

    def normals(*shape):
        return pygan.instance_noise(torch.zeros(shape).double(), 1.0, stream=draws)

    # The draws of a step: latents of both phases, then the penalty's.
    latent, _, z = normals(5, 4), normals(5, 4), normals(5, 6)
    x = samples() if side is R1 else G(latent).detach()
    got = trainer.step(samples()).penalty
    torch.testing.assert_close(got.double(), written_out(D, x, z, of).mean(), rtol=1e-5, atol=0)


def test_weights_of_other_codebases():
    """ARC's weight w is gamma / (2 sigma^2); for a mean over L logits, such as Self-Forcing's of the squared slope,
    gamma = 2 w / L."""
    D, x, w = Scales(), samples(), 3.0
    z = pygan.instance_noise(torch.zeros_like(x), 1.0, stream=pygan.NoiseStream(3))
    differences = torch.cat(
        [(a - b).flatten(1) for a, b in zip(D(x + SIGMA * z), D(x), strict=True)], 1
    )
    for gamma, want in (
        (2 * SIGMA**2 * w, w * differences.square().sum(1).mean()),
        (2 * w / 7, w * (differences / SIGMA).square().mean()),
    ):
        stream = pygan.NoiseStream(3)
        got = approximate_r1(D, x, gamma=gamma, sigma=SIGMA, of="logit", stream=stream)
        torch.testing.assert_close(got.penalty, want)


def test_the_estimate_approaches_the_exact_penalty():
    D = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2)).double()
    x = samples(20_000).requires_grad_()
    exact = r1(x, D(x), 2.0)
    torch.manual_seed(0)
    got = approximate_r1(D, x.detach(), gamma=2.0, sigma=1e-3).penalty
    torch.testing.assert_close(got, exact, rtol=0.1, atol=0)


class OwnGenerator(nn.Module):
    """Dropout with its own generator."""

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(5)

    def forward(self, x):
        return x * (torch.rand(x.shape, generator=self.generator) > 0.3)


class OwnStream(nn.Module):
    def __init__(self):
        super().__init__()
        self.noise = pygan.NoiseStream(5)

    def forward(self, x):
        return pygan.instance_noise(x, 0.5, stream=self.noise)


LAYERS = {
    "dropout": lambda: nn.Dropout(0.3),
    "noise": lambda: pygan.InstanceNoise(Constant(0.5), seed=3),
    "spectral norm": lambda: spectral_norm(nn.Linear(6, 6)),
    "own generator": OwnGenerator,
    "own stream": OwnStream,
    "attention": lambda: Attention(),
}


class Attention(nn.Module):
    """Attention with dropout of its probabilities."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(1, 12)

    def forward(self, x):
        q, k, v = self.qkv(x.unsqueeze(2)).chunk(3, -1)
        return nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=0.3).mean(2)


def with_layer(name):
    torch.manual_seed(0)
    return nn.Sequential(LAYERS[name](), nn.Linear(6, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))


@pytest.mark.parametrize("name", LAYERS)
def test_a_random_discriminator_is_replayed(name):
    """The estimate is as large as the exact penalty, and the random state is as after a single pass, without a
    synchronization."""
    x = torch.randn(512, 6, generator=torch.Generator().manual_seed(1))
    D, plain = with_layer(name), with_layer(name)
    torch.manual_seed(2)
    leaf = x.clone().requires_grad_()
    # Fused attention has no second derivative.
    exact = r1(leaf, plain(leaf), 2.0).item() if name != "attention" else None
    torch.manual_seed(2)
    stream = pygan.NoiseStream(1)
    with NoSync():
        penalty, output = approximate_r1(D, x, gamma=2.0, sigma=1e-3, stream=stream)
    after = torch.get_rng_state()
    if exact is None:
        assert penalty < 1.0
    else:
        assert penalty.item() == pytest.approx(exact, rel=0.25)
    fresh = with_layer(name)
    torch.manual_seed(2)
    assert_same(output, fresh(x))
    assert_same(torch.get_rng_state(), after)
    assert_same(D.state_dict(), fresh.state_dict())


@pytest.mark.parametrize("name", ["own generator", "own stream"])
def test_the_trainer_replays_generators_of_modules(name):
    values = []
    for sigma in (None, 0.01):
        G = nn.Linear(4, 6)
        D = with_layer(name)
        optimizers = [torch.optim.SGD(net.parameters(), lr=0.0) for net in (G, D)]
        trainer = pygan.GANTrainer(
            G, D, *optimizers, latent=4, seed=1, penalties=R1(1.0, sigma=sigma)
        )
        real = torch.randn(4096, 6, generator=torch.Generator().manual_seed(1))
        values.append(float(trainer.step(real).penalty))
    assert values[1] == pytest.approx(values[0], rel=0.1)


@pytest.mark.parametrize("exponent", [-13, 8])
@pytest.mark.parametrize("of", ["sample", "logit"])
def test_squared_fp16_differences_do_not_underflow_or_overflow(of, exponent):
    """Logits of ±2^exponent times the sum of a sample's 4 elements."""
    D = nn.Linear(4, 2, bias=False).half()
    nn.init.constant_(D.weight, 2.0**exponent)
    x = torch.zeros(2, 4, dtype=torch.float16)
    z = pygan.instance_noise(torch.zeros(2, 4).half(), 1.0, stream=pygan.NoiseStream(3))
    rises = D(z).float()
    squares = rises.sum(1).square() if of == "sample" else rises.square().sum(1)
    got = approximate_r1(D, x, gamma=2.0, sigma=1.0, of=of, stream=pygan.NoiseStream(3)).penalty
    assert got.dtype == torch.float32
    assert 0 < got < float("inf")
    torch.testing.assert_close(got, squares.mean())


def test_labels_and_further_outputs_of_the_discriminator():
    class Both(Scales):
        def forward(self, x, labels=0):
            return {"logits": super().forward(x, labels), "features": x}

    D, x, labels = Both(), samples(), torch.ones(5, 1).double()
    options = {"gamma": 1.0, "sigma": SIGMA, "logits": lambda output: output["logits"]}
    penalty, output = approximate_r1(D, x, labels, stream=pygan.NoiseStream(3), **options)
    assert_same(output, D(x, labels))
    want = approximate_r1(D, x, stream=pygan.NoiseStream(3), **options).penalty
    torch.testing.assert_close(penalty, want)  # labels shift both passes equally


def test_torchs_seed_reproduces_it():
    values, D = [], Scales()
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(approximate_r1(D, samples(), gamma=1.0, sigma=0.1).penalty)
    assert values[0] == values[1] != values[2]


def test_a_batch_of_one_with_a_0_d_logit():
    D = nn.Sequential(nn.Linear(6, 1), nn.Flatten(0)).double()

    class Squeezed(nn.Module):
        def forward(self, x):
            return D(x).squeeze()

    one = samples(1)
    for of in ("sample", "logit"):
        options = {"gamma": 1.0, "sigma": 0.1, "of": of}
        got, want = (
            approximate_r1(net, one, stream=pygan.NoiseStream(1), **options).penalty
            for net in (Squeezed(), D)
        )
        assert_same(got, want)


CALLS = [
    (lambda D, x: approximate_r1(lambda x: x, x, gamma=1.0, sigma=1.0), TypeError,
     "approximate_r1: discriminator must be an nn.Module, because its buffers and streams are restored, got function"),
    (lambda D, x: approximate_r2(D, x.int(), gamma=1.0, sigma=1.0), TypeError,
     "approximate_r2: samples must be float32, float64, float16 or bfloat16, got torch.int32"),
    (lambda D, x: approximate_r1(D, x[0, 0], gamma=1.0, sigma=1.0), ValueError,
     "approximate_r1: samples must be a non-empty batch (N, ...)"),
    (lambda D, x: approximate_r1(D, x, gamma=0.0, sigma=1.0), ValueError,
     "approximate_r1: gamma must be positive and finite, got 0.0"),
    (lambda D, x: approximate_r1(D, x, gamma=1.0, sigma=float("inf")), ValueError,
     "approximate_r1: sigma must be positive and finite, got inf"),
    (lambda D, x: approximate_r1(D, x, gamma=1.0, sigma=1.0, of="scale"), ValueError,
     "approximate_r1: of must be sample or logit, got 'scale'"),
    (lambda D, x: approximate_r1(D, x, gamma=1.0, sigma=1.0, logits=0), TypeError,
     "approximate_r1: logits must be a callable or None, got int"),
    (lambda D, x: approximate_r1(D, x, gamma=1.0, sigma=1.0, stream=0), TypeError,
     "approximate_r1: stream must be a NoiseStream or None, got int"),
    (lambda D, x: approximate_r1(D, x, gamma=1.0, sigma=1.0, reduction="sum"), ValueError,
     "approximate_r1: reduction must be mean or none, got 'sum'"),
    (lambda D, x: approximate_r1(D, x, gamma=1.0, sigma=1.0, logits=tuple), TypeError,
     "approximate_r1: the discriminator's logits must be a tensor or a list of tensors, one for each scale"),
    (lambda D, x: approximate_r1(D, x, gamma=1.0, sigma=1.0, logits=lambda y: y[0].mean()), ValueError,
     "approximate_r1: the discriminator's logits must have the samples' first dimension, 5, got a tensor of shape ()"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), CALLS)
def test_invalid_arguments_are_refused(call, error, message):
    D, x = Scales(), samples()
    before = torch.get_rng_state()
    with raises(error, f"pygan.penalties.{message}"):
        call(D, x)
    if "discriminator's logits" not in message:
        assert_same(torch.get_rng_state(), before)


def test_exact_penalties_refuse_of_logit():
    for side in (R1, R2):
        name = side.__name__
        with raises(
            ValueError, f"{name}: of must be 'sample' without sigma, because the gradient is"
        ):
            side(1.0, of="logit")
        with raises(ValueError, f"{name}: of must be sample or logit, got 'mean'"):
            side(1.0, sigma=0.1, of="mean")


@pytest.mark.parametrize("draws", [None, True])
def test_capture_with_a_random_discriminator_is_refused(monkeypatch, draws):
    """Only the check runs, because there is no GPU."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    message = "op: the discriminator of a finite difference must not draw random numbers (dropout) while a CUDA graph"
    with raises(RuntimeError, message):
        check_capture("op", torch.device("cuda"), draws)
    check_capture("op", torch.device("cuda"), False)
    check_capture("op", torch.device("cpu"), draws)
