"""Bad input: the message names the op, the argument, what it must be and what was got, and nothing changes.

Each case is a call, the type of its error and the message, read from its beginning. A case that passes
says: no output was written, no stream advanced, no generator drawn from.
"""

import math
import re

import pytest
import torch

import pygan
from pygan import NoiseStream, instance_noise
from pygan.fused_losses import discriminator_loss, generator_loss

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def raises(error, message, *pieces):
    """The error with this beginning of the message, and these pieces later on the same line."""
    pattern = "^" + ".*".join(re.escape(piece) for piece in (message, *pieces))
    return pytest.raises(error, match=pattern)


# --- losses ----------------------------------------------------------------------------------------

R, F = torch.linspace(-1, 1, 4), torch.linspace(-2, 2, 6)
LOSS_CASES = {
    # dtypes
    "real int": (
        lambda: discriminator_loss(R.long(), F),
        TypeError,
        "pygan.discriminator_loss: real_logits must be float32, float64, float16 or bfloat16, got ",
    ),
    "fake bool": (
        lambda: discriminator_loss(R, F > 0),
        TypeError,
        "pygan.discriminator_loss: fake_logits must be float32, float64, float16 or bfloat16, got ",
    ),
    "complex": (
        lambda: generator_loss(F.to(torch.complex64)),
        TypeError,
        "pygan.generator_loss: fake_logits must be float32, float64, float16 or bfloat16, got ",
    ),
    "fp8": (
        lambda: generator_loss(F.to(torch.float8_e5m2)),
        TypeError,
        "pygan.generator_loss: fake_logits must be float32, float64, float16 or bfloat16, got ",
    ),
    "mixed dtypes": (
        lambda: discriminator_loss(R, F.half()),
        TypeError,
        "pygan.discriminator_loss: fake_logits must have the dtype of real_logits, ",
    ),
    # no tensors
    "list": (
        lambda: discriminator_loss([1.0], F),
        TypeError,
        "pygan.discriminator_loss: real_logits must be a tensor, got list",
    ),
    "array": (
        lambda: discriminator_loss(R, F.numpy()),
        TypeError,
        "pygan.discriminator_loss: fake_logits must be a tensor, got ndarray",
    ),
    "None": (
        lambda: generator_loss(None),
        TypeError,
        "pygan.generator_loss: fake_logits must be a tensor, got NoneType",
    ),
    # devices
    "devices": (
        lambda: discriminator_loss(R, F.to("meta")),
        ValueError,
        "pygan.discriminator_loss: fake_logits must be on the device of real_logits, cpu, got meta",
    ),
    "devices, the other way": (
        lambda: discriminator_loss(R.to("meta"), F),
        ValueError,
        "pygan.discriminator_loss: fake_logits must be on the device of real_logits, meta, got cpu",
    ),
    # empty under a mean
    "empty real": (
        lambda: discriminator_loss(R[:0], F),
        ValueError,
        'pygan.discriminator_loss: real_logits must not be empty for reduction="mean", got shape [0]',
    ),
    "empty fake": (
        lambda: discriminator_loss(R, torch.zeros(3, 0, 2)),
        ValueError,
        'pygan.discriminator_loss: fake_logits must not be empty for reduction="mean", got shape [3, 0, 2]',
    ),
    "empty generator": (
        lambda: generator_loss(F[:0]),
        ValueError,
        'pygan.generator_loss: fake_logits must not be empty for reduction="mean", got shape [0]',
    ),
    # options
    "loss": (
        lambda: discriminator_loss(R, F, loss="hing"),
        ValueError,
        "pygan.discriminator_loss: loss must be one of non_saturating, minimax",
        ", got 'hing'",
    ),
    "loss None": (
        lambda: generator_loss(F, loss=None),
        ValueError,
        "pygan.generator_loss: loss must be one of non_saturating, minimax",
        ", got None",
    ),
    "loss list": (
        lambda: generator_loss(F, loss=["minimax"]),
        (ValueError, TypeError),
        "pygan.generator_loss: loss must be one of non_saturating, minimax",
        ", got ['minimax']",
    ),
    "reduction": (
        lambda: discriminator_loss(R, F, reduction="average"),
        ValueError,
        "pygan.discriminator_loss: reduction must be one of mean, sum, none, got 'average'",
    ),
    "reduction number": (
        lambda: generator_loss(F, reduction=0),
        ValueError,
        "pygan.generator_loss: reduction must be one of mean, sum, none, got 0",
    ),
    "reduction list": (
        lambda: generator_loss(F, reduction=[]),
        (ValueError, TypeError),
        "pygan.generator_loss: reduction must be one of mean, sum, none, got []",
    ),
    "smoothing negative": (
        lambda: discriminator_loss(R, F, label_smoothing=-0.1),
        ValueError,
        "pygan.discriminator_loss: label_smoothing must be from 0 to 1, got -0.1",
    ),
    "smoothing large": (
        lambda: discriminator_loss(R, F, label_smoothing=1.5),
        ValueError,
        "pygan.discriminator_loss: label_smoothing must be from 0 to 1, got 1.5",
    ),
    "smoothing nan": (
        lambda: discriminator_loss(R, F, label_smoothing=math.nan),
        ValueError,
        "pygan.discriminator_loss: label_smoothing must be from 0 to 1, got nan",
    ),
    "smoothing str": (
        lambda: discriminator_loss(R, F, label_smoothing="0.1"),
        (ValueError, TypeError),
        "pygan.discriminator_loss: label_smoothing must be ",
        ", got ",
    ),
    "smoothing None": (
        lambda: discriminator_loss(R, F, label_smoothing=None),
        (ValueError, TypeError),
        "pygan.discriminator_loss: label_smoothing must be ",
        ", got ",
    ),
    # what the loss cannot honour
    "real logits": (
        lambda: generator_loss(F, real_logits=R),
        ValueError,
        'pygan.generator_loss: real_logits must be None for loss="non_saturating"',
        ", got a tensor of shape (4,)",
    ),
    "real logits, minimax": (
        lambda: generator_loss(F, real_logits=[1.0], loss="minimax"),
        ValueError,
        'pygan.generator_loss: real_logits must be None for loss="minimax"',
        ", got list",
    ),
}


@pytest.mark.parametrize("name", LOSS_CASES)
def test_losses(name):
    call, error, *message = LOSS_CASES[name]
    generator = torch.get_rng_state()
    with raises(error, *message) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("name", LOSS_CASES)
def test_losses_with_gradients(name, monkeypatch):
    """The same messages where autograd records, and no gradient is left behind."""
    call, error, *message = LOSS_CASES[name]
    leaves = [t.clone().requires_grad_() for t in (R, F)]
    monkeypatch.setitem(globals(), "R", leaves[0])
    monkeypatch.setitem(globals(), "F", leaves[1])
    if name == "array":
        pytest.skip("a tensor that requires grad is no array")
    with raises(error, *message):
        call()
    assert all(t.grad is None for t in leaves)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_check_under_every_reduction(reduction):
    with raises(TypeError, "pygan.discriminator_loss: fake_logits must be float32"):
        discriminator_loss(R, F.long(), reduction=reduction, return_stats=True)
    with raises(TypeError, "pygan.generator_loss: fake_logits must be float32"):
        generator_loss(F.long(), reduction=reduction)


@pytest.mark.parametrize(
    ("real", "fake", "error", "message"),
    [
        (R, F.half(), TypeError, "fake_logits must have the dtype of real_logits"),
        (R, F.to("meta"), ValueError, "fake_logits must be on the device of real_logits"),
    ],
    ids=["dtype", "device"],
)
def test_logits_must_agree_for_terms_too(real, fake, error, message):
    """reduction="none" is an op per tensor, but one call."""
    with raises(error, "pygan.discriminator_loss: " + message):
        discriminator_loss(real, fake, reduction="none")


# --- instance noise --------------------------------------------------------------------------------

FLOATS = "must be float32, float64, float16 or bfloat16"
SIGMA = "sigma must be finite and not negative, got "
SIGMA_SHAPE = "sigma must be a number, a 0-d tensor or one value per sample of x, shape "


def overlapping(device):
    memory = torch.zeros(5, 3, device=device)
    return {"x": memory[:4], "out": memory[1:]}


# Arguments (of the device) that differ from a good call's; error; message after the op's name.
NOISE_CASES = {
    "x long": (lambda d: {"x": torch.zeros(4, 3, dtype=torch.long, device=d)}, TypeError,
               "x must be float32, float64, float16, bfloat16 or uint8, got "),
    "x bool": (lambda d: {"x": torch.zeros(4, 3, dtype=torch.bool, device=d)}, TypeError,
               "x must be float32, float64, float16, bfloat16 or uint8, got "),
    "x complex": (lambda d: {"x": torch.zeros(4, 3, dtype=torch.cfloat, device=d)}, TypeError,
                  "x must be float32, float64, float16, bfloat16 or uint8, got "),
    "x list": (lambda d: {"x": [1.0]}, TypeError, "x must be a tensor, got list"),
    "sigma negative": (lambda d: {"sigma": -1.0}, ValueError, SIGMA, "-1"),
    "sigma nan": (lambda d: {"sigma": math.nan}, ValueError, SIGMA, "nan"),
    "sigma inf": (lambda d: {"sigma": math.inf}, ValueError, SIGMA, "inf"),
    "sigma str": (lambda d: {"sigma": "0.5"}, TypeError, "sigma must be a", ", got str"),
    "sigma None": (lambda d: {"sigma": None}, TypeError, "sigma must be a", ", got NoneType"),
    "sigma list": (lambda d: {"sigma": [0.1, 0.2]}, TypeError, "sigma must be a", ", got list"),
    "sigma too long": (lambda d: {"sigma": torch.ones(3, device=d)}, ValueError, SIGMA_SHAPE,
                       "[4, 3]", ", got shape [3]"),
    "sigma of one": (lambda d: {"sigma": torch.ones(1, device=d)}, ValueError, SIGMA_SHAPE,
                     "[4, 3]", ", got shape [1]"),
    "sigma 2-d": (lambda d: {"sigma": torch.ones(4, 1, device=d)}, ValueError, SIGMA_SHAPE,
                  "[4, 3]", ", got shape [4, 1]"),
    "sigma per sample of a 0-d x": (
        lambda d: {"x": torch.zeros((), device=d), "sigma": torch.ones(1, device=d)}, ValueError,
        SIGMA_SHAPE, "[]", ", got shape [1]"),
    "sigma requires grad": (
        lambda d: {"sigma": torch.ones(3, device=d, requires_grad=True)}, ValueError, SIGMA_SHAPE,
        "[4, 3]", ", got shape [3]"),
    "sigma half": (lambda d: {"sigma": torch.ones(4, device=d).half()}, TypeError,
                   "sigma must be a float32 or float64 tensor, got "),
    "sigma int": (lambda d: {"sigma": torch.tensor(1, device=d)}, TypeError,
                  "sigma must be a float32 or float64 tensor, got "),
    "sigma elsewhere": (lambda d: {"sigma": torch.ones(4, device="meta")}, ValueError,
                        "sigma must be on the device of x, ", ", got meta"),
    "scale inf": (lambda d: {"scale": math.inf}, ValueError, "scale must be finite, got inf"),
    "bias nan": (lambda d: {"bias": math.nan}, ValueError, "bias must be finite, got nan"),
    "scale str": (lambda d: {"scale": "2"}, TypeError, "scale must be a number, got str"),
    "bias None": (lambda d: {"bias": None}, TypeError, "bias must be a number, got NoneType"),
    "dtype int": (lambda d: {"dtype": torch.int32}, TypeError, f"dtype {FLOATS}, got "),
    "dtype uint8": (lambda d: {"dtype": torch.uint8}, TypeError, f"dtype {FLOATS}, got "),
    "dtype str": (lambda d: {"dtype": "float"}, TypeError, "dtype must be a torch.dtype, got str"),
    "dtype and out": (
        lambda d: {"dtype": torch.float64, "out": torch.zeros(4, 3, device=d)}, TypeError,
        "dtype must be that of out, torch.float32, or None, got torch.float64"),
    "out shape": (lambda d: {"out": torch.zeros(3, 4, device=d)}, ValueError,
                  "out must have the shape of x, [4, 3], got [3, 4]"),
    "out broadcast": (lambda d: {"out": torch.zeros(2, 4, 3, device=d)}, ValueError,
                      "out must have the shape of x, [4, 3], got [2, 4, 3]"),
    "out int": (lambda d: {"out": torch.zeros(4, 3, dtype=torch.int32, device=d)}, TypeError,
                f"out {FLOATS}, got "),
    "out elsewhere": (lambda d: {"out": torch.zeros(4, 3, device="meta")}, ValueError,
                      "out must be on the device of x, ", ", got meta"),
    "out number": (lambda d: {"out": 5}, TypeError, "out must be a tensor, got int"),
    "out overlaps itself": (lambda d: {"out": torch.zeros(1, 3, device=d).expand(4, 3)},
                            (ValueError, RuntimeError), "out must "),
    "out overlaps x": (overlapping, (ValueError, RuntimeError), "out must "),
    "out with x that requires grad": (
        lambda d: {"x": torch.zeros(4, 3, device=d, requires_grad=True),
                   "out": torch.zeros(4, 3, device=d)},
        RuntimeError, "out must not be given where x, sigma or out require grad"),
    "out with sigma that requires grad": (
        lambda d: {"sigma": torch.ones((), device=d, requires_grad=True),
                   "out": torch.zeros(4, 3, device=d)},
        RuntimeError, "out must not be given where x, sigma or out require grad"),
    "out that requires grad": (
        lambda d: {"out": torch.zeros(4, 3, device=d, requires_grad=True)},
        RuntimeError, "out must not be given where x, sigma or out require grad"),
}  # fmt: skip


@pytest.mark.parametrize("source", ["stream", "generator", "default generator"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NOISE_CASES)
def test_noise(name, device, source):
    change, error, *message = NOISE_CASES[name]
    stream = NoiseStream(5, step=6, device=device)
    generator = torch.Generator(device).manual_seed(7)
    arguments = {"x": torch.ones(4, 3, device=device), "sigma": 0.5} | change(device)
    if source != "default generator":
        arguments[source] = {"stream": stream, "generator": generator}[source]
    states = [torch.get_rng_state(), generator.get_state()]
    if device == "cuda":
        states.append(torch.cuda.get_rng_state())
    tensors = [
        t for t in arguments.values() if isinstance(t, torch.Tensor) and t.device.type != "meta"
    ]
    before = [t.detach().clone() for t in tensors]

    x, sigma = arguments.pop("x"), arguments.pop("sigma")
    with raises(error, "pygan.instance_noise: " + message[0], *message[1:]) as caught:
        instance_noise(x, sigma, **arguments)
    assert "\n" not in str(caught.value)

    assert (stream.seed, stream.step) == (5, 6)
    after = [torch.get_rng_state(), generator.get_state()]
    if device == "cuda":
        after.append(torch.cuda.get_rng_state())
    for a, b in zip(states, after, strict=True):
        assert torch.equal(a, b), "a generator was drawn from"
    for a, b in zip(before, tensors, strict=True):
        assert torch.equal(a, b), "something was written"


SOURCES = {
    "stream int": (
        {"stream": 5}, TypeError, "stream must be a NoiseStream, got int"),
    "stream state": (
        {"stream": torch.tensor([1, 2])}, TypeError, "stream must be a NoiseStream, got Tensor"),
    "generator int": ({"generator": 5}, TypeError, "generator must be a torch.Generator"),
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_noise_from_the_wrong_source(name):
    arguments, error, message = SOURCES[name]
    state = torch.get_rng_state()
    with raises(error, "pygan.instance_noise: " + message):
        instance_noise(torch.zeros(3), 0.5, **arguments)
    assert torch.equal(torch.get_rng_state(), state)


def test_stream_and_generator():
    stream, generator = NoiseStream(1), torch.Generator().manual_seed(1)
    state = generator.get_state()
    with raises(
        ValueError, "pygan.instance_noise: generator must be None where a stream is given, got both"
    ):
        instance_noise(torch.zeros(3), 0.5, stream=stream, generator=generator)
    assert stream.step == 0 and torch.equal(generator.get_state(), state)


def test_stream_of_another_device():
    stream = NoiseStream(1, device="meta")
    with raises(
        ValueError, "pygan.instance_noise: stream must be on the device of x, cpu, got meta"
    ):
        instance_noise(torch.zeros(3), 0.5, stream=stream)
    stream = NoiseStream(1)
    with raises(
        ValueError, "pygan.instance_noise: stream must be on the device of x, meta, got cpu"
    ):
        instance_noise(torch.zeros(3, device="meta"), 0.5, stream=stream)
    assert stream.step == 0


@pytest.mark.cuda
def test_devices_of_a_gpu():
    x = torch.zeros(3, device="cuda")
    stream = NoiseStream(1)
    with raises(
        ValueError, "pygan.instance_noise: stream must be on the device of x, cuda:0, got cpu"
    ):
        instance_noise(x, 0.5, stream=stream)
    assert stream.step == 0
    with raises(
        ValueError, "pygan.instance_noise: sigma must be on the device of x, cuda:0, got cpu"
    ):
        instance_noise(x, torch.ones(3), stream=NoiseStream(1, device="cuda"))
    with raises(
        (TypeError, ValueError), "pygan.instance_noise: generator must be on the device of x"
    ):
        instance_noise(x, 0.5, generator=torch.Generator())
    with raises(
        ValueError,
        "pygan.discriminator_loss: fake_logits must be on the device of real_logits, cuda:0, got cpu",
    ):
        discriminator_loss(x, torch.zeros(3))


def test_offset_that_somebody_spoilt():
    stream = NoiseStream(1)
    stream.offset = -4
    with raises(ValueError, "pygan.instance_noise: offset must not be negative, got -4"):
        instance_noise(torch.zeros(3), 0.5, stream=stream)
    assert stream.step == 0


# --- NoiseStream -----------------------------------------------------------------------------------

STREAM_CASES = [
    ({"seed": -1}, ValueError, "seed must be from 0 to 2**64 - 1, got -1"),
    ({"seed": 2**64}, ValueError, f"seed must be from 0 to 2**64 - 1, got {2**64}"),
    ({"seed": 1.5}, TypeError, "seed must be an int, got float"),
    ({"seed": "1"}, TypeError, "seed must be an int, got str"),
    ({"seed": None}, TypeError, "seed must be an int, got NoneType"),
    ({"seed": True}, TypeError, "seed must be an int, got bool"),
    ({"step": -1}, ValueError, "step must be from 0 to 2**64 - 1, got -1"),
    ({"step": 2**64}, ValueError, f"step must be from 0 to 2**64 - 1, got {2**64}"),
    ({"step": 1.0}, TypeError, "step must be an int, got float"),
    ({"offset": -1}, ValueError, "offset must be from 0 to 2**63 - 1, got -1"),
    ({"offset": 2**63}, ValueError, f"offset must be from 0 to 2**63 - 1, got {2**63}"),
    ({"offset": 0.0}, TypeError, "offset must be an int, got float"),
]


@pytest.mark.parametrize(("change", "error", "message"), STREAM_CASES)
def test_stream(change, error, message):
    arguments = {"seed": 1, "step": 2, "offset": 3}
    with raises(error, "pygan.NoiseStream: " + message):
        NoiseStream(**(arguments | change))
    # The same through a state_dict, and the stream stays what it was.
    stream = NoiseStream(7, step=8, offset=9)
    with raises(error, "pygan.NoiseStream: " + message):
        stream.load_state_dict(arguments | change)
    assert stream.state_dict() == {"seed": 7, "step": 8, "offset": 9}


@pytest.mark.parametrize(
    "state_dict",
    [{}, {"seed": 1, "step": 2}, {"seed": 1, "step": 2, "offset": 3, "device": 4}],
)
def test_state_dict_keys(state_dict):
    stream = NoiseStream(7, step=8, offset=9)
    with pytest.raises((KeyError, ValueError)) as caught:
        stream.load_state_dict(state_dict)
    message = caught.value.args[0]
    assert message.startswith(
        "pygan.NoiseStream: state_dict must have the keys seed, step and offset, got "
    )
    assert message.endswith(str(sorted(state_dict)))
    assert stream.state_dict() == {"seed": 7, "step": 8, "offset": 9}


# --- the choice of kernels -------------------------------------------------------------------------


def test_unknown_instruction_set():
    before = pygan._C.cpu_capability()
    with raises(RuntimeError, "pygan: capability must be baseline, avx2 or avx512", 'got "sse"'):
        pygan._C.use_cpu_capability("sse")
    assert pygan._C.cpu_capability() == before
