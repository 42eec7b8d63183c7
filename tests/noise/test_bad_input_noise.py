"""Bad input to instance_noise and NoiseStream: the error, the beginning of its message, and no side effects.

Each case is a call, the type of its error and the beginning of the message. A case also checks that no output was
written, no stream advanced, and no generator drawn from.
"""

import math

import pytest
import torch
from helpers import DEVICES, raises

from pygan import InstanceNoise, NoiseStream, instance_noise
from pygan.schedules import Adaptive, Constant

# --- instance noise --------------------------------------------------------------------------------

FLOATS = "must be float32, float64, float16 or bfloat16"
SIGMA = "sigma must be finite and not negative, got "
SIGMA_SHAPE = "sigma must be a number, a 0-d tensor or one value per sample of x, shape "
SEVERAL = "sigma must be a number, or a tensor with one value per sample"
SCALE_SHAPE = SIGMA_SHAPE.replace("sigma", "scale")


def overlapping(device):
    memory = torch.zeros(5, 3, device=device)
    return {"x": memory[:4], "out": memory[1:]}


# Arguments (as a function of the device) that differ from a valid call; error; message after the op's name.
NOISE_CASES = {
    "x long": (lambda d: {"x": torch.zeros(4, 3, dtype=torch.long, device=d)}, TypeError,
               "x must be float32, float64, float16, bfloat16 or uint8, got "),
    "x bool": (lambda d: {"x": torch.zeros(4, 3, dtype=torch.bool, device=d)}, TypeError,
               "x must be float32, float64, float16, bfloat16 or uint8, got "),
    "x complex": (lambda d: {"x": torch.zeros(4, 3, dtype=torch.cfloat, device=d)}, TypeError,
                  "x must be float32, float64, float16, bfloat16 or uint8, got "),
    "x number": (lambda d: {"x": 1.0}, TypeError, "x must be a tensor or a list of tensors, got float"),
    "x empty": (lambda d: {"x": []}, ValueError,
                "x must hold at least one tensor, got an empty list"),
    "x of numbers": (lambda d: {"x": [torch.ones(2, device=d), 1.0]}, TypeError,
                     "x[1] must be a tensor, got float"),
    "x of longs": (lambda d: {"x": [torch.ones(2, device=d), torch.ones(2, device=d).long()]},
                   TypeError, "x[1] must be float32, float64, float16, bfloat16 or uint8, got "),
    "x of unlike batches": (
        lambda d: {"x": [torch.ones(4, device=d), torch.ones(3, device=d)],
                   "sigma": torch.ones(4, device=d)},
        ValueError, "sigma must be a number, a 0-d tensor or one value per sample of x[1], shape ",
        "[3]", ", got shape [4]"),
    "x of unlike batches, sigma requires grad": (
        lambda d: {"x": [torch.ones(4, device=d), torch.ones(3, device=d)],
                   "sigma": torch.ones(4, device=d, requires_grad=True)},
        ValueError, "sigma must be a number, a 0-d tensor or one value per sample of x[1], shape ",
        "[3]", ", got shape [4]"),
    "sigma negative": (lambda d: {"sigma": -1.0}, ValueError, SIGMA, "-1"),
    "sigma nan": (lambda d: {"sigma": math.nan}, ValueError, SIGMA, "nan"),
    "sigma inf": (lambda d: {"sigma": math.inf}, ValueError, SIGMA, "inf"),
    "sigma str": (lambda d: {"sigma": "0.5"}, TypeError, "sigma must be a", ", got str"),
    "sigma None": (lambda d: {"sigma": None}, TypeError, "sigma must be a", ", got NoneType"),
    "sigma list": (lambda d: {"sigma": [0.1, 0.2]}, TypeError, SEVERAL, ", got a list of length 2"),
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
    "scale too long": (lambda d: {"scale": torch.ones(3, device=d)}, ValueError, SCALE_SHAPE,
                       "[4, 3]", ", got shape [3]"),
    "scale of one": (lambda d: {"scale": torch.ones(1, device=d)}, ValueError, SCALE_SHAPE,
                     "[4, 3]", ", got shape [1]"),
    "scale 2-d": (lambda d: {"scale": torch.ones(4, 1, device=d)}, ValueError, SCALE_SHAPE,
                  "[4, 3]", ", got shape [4, 1]"),
    "scale per sample of a 0-d x": (
        lambda d: {"x": torch.zeros((), device=d), "scale": torch.ones(1, device=d)}, ValueError,
        SCALE_SHAPE, "[]", ", got shape [1]"),
    "scale requires grad": (
        lambda d: {"scale": torch.ones(3, device=d, requires_grad=True)}, ValueError, SCALE_SHAPE,
        "[4, 3]", ", got shape [3]"),
    "scale half": (lambda d: {"scale": torch.ones(4, device=d).half()}, TypeError,
                   "scale must be a float32 or float64 tensor, got "),
    "scale int": (lambda d: {"scale": torch.tensor(1, device=d)}, TypeError,
                  "scale must be a float32 or float64 tensor, got "),
    "scale elsewhere": (lambda d: {"scale": torch.ones(4, device="meta")}, ValueError,
                        "scale must be on the device of x, ", ", got meta"),
    "scale list": (lambda d: {"scale": [0.1, 0.2]}, TypeError, SEVERAL.replace("sigma", "scale"), ", got a list"),
    "scale of unlike batches": (
        lambda d: {"x": [torch.ones(4, device=d), torch.ones(3, device=d)],
                   "scale": torch.ones(4, device=d)},
        ValueError, "scale must be a number, a 0-d tensor or one value per sample of x[1], shape ",
        "[3]", ", got shape [4]"),
    "scale inf": (lambda d: {"scale": math.inf}, ValueError, "scale must be finite, got inf"),
    "bias nan": (lambda d: {"bias": math.nan}, ValueError, "bias must be finite, got nan"),
    "scale str": (lambda d: {"scale": "2"}, TypeError, "scale must be a number, got str"),
    "bias large": (lambda d: {"bias": 10**400}, ValueError, "bias must be finite, got a number too large"),
    "out negated": (
        lambda d: {"x": torch.zeros(3, device=d),
                   "out": torch.zeros(3, dtype=torch.cfloat, device=d).conj().imag},
        (ValueError, RuntimeError), ""),
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
    "out number": (lambda d: {"out": 5}, TypeError,
                   "out must be a tensor or a list of tensors, got int"),
    "out of lists": (lambda d: {"out": [torch.zeros(4, 3, device=d)]}, TypeError,
                     "out must be a tensor if x is a tensor, and a list if x is a list"),
    "out too short": (
        lambda d: {"x": [torch.ones(4, device=d)] * 2, "out": [torch.ones(4, device=d)]},
        ValueError, "out must have as many tensors as x, 2, got 1"),
    "out of the wrong shape": (
        lambda d: {"x": [torch.ones(4, device=d)] * 2,
                   "out": [torch.ones(4, device=d), torch.ones(3, device=d)]},
        ValueError, "out[1] must have the shape of x, [4], got [3]"),
    "out twice": (
        lambda d: {"x": [torch.ones(4, device=d), torch.ones(4, device=d)],
                   "out": [torch.ones(4, device=d)] * 2},
        ValueError, "out[0] must share no memory with the other tensors of x and out"),
    "out is another x": (
        lambda d: {"x": (x := [torch.ones(4, device=d), torch.ones(4, device=d)]), "out": x[::-1]},
        ValueError, "out[0] must share no memory with the other tensors of x and out"),
    "out overlaps itself": (lambda d: {"out": torch.zeros(1, 3, device=d).expand(4, 3)},
                            (ValueError, RuntimeError), "out must "),
    "out overlaps x": (overlapping, (ValueError, RuntimeError), "out must "),
    "out with x that requires grad": (
        lambda d: {"x": torch.zeros(4, 3, device=d, requires_grad=True),
                   "out": torch.zeros(4, 3, device=d)},
        RuntimeError, "out must not be given if x, sigma, scale or out require grad"),
    "out with sigma that requires grad": (
        lambda d: {"sigma": torch.ones((), device=d, requires_grad=True),
                   "out": torch.zeros(4, 3, device=d)},
        RuntimeError, "out must not be given if x, sigma, scale or out require grad"),
    "out with scale that requires grad": (
        lambda d: {"scale": torch.ones((), device=d, requires_grad=True),
                   "out": torch.zeros(4, 3, device=d)},
        RuntimeError, "out must not be given if x, sigma, scale or out require grad"),
    "out that requires grad": (
        lambda d: {"out": torch.zeros(4, 3, device=d, requires_grad=True)},
        RuntimeError, "out must not be given if x, sigma, scale or out require grad"),
}  # fmt: skip


@pytest.mark.parametrize("source", ["stream", "generator", "default generator"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NOISE_CASES)
def test_invalid_arguments_of_noise_are_refused(name, device, source):
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
    for listed in arguments.values():
        if isinstance(listed, list):
            tensors += [t for t in listed if isinstance(t, torch.Tensor)]
    before = [t.detach().clone() for t in tensors]

    x, sigma = arguments.pop("x"), arguments.pop("sigma")
    prefix = "pygan.instance_noise: " + message[0] if message[0] else ""
    with raises(error, prefix, *message[1:]) as caught:
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
        ValueError, "pygan.instance_noise: generator must be None if a stream is given, got both"
    ):
        instance_noise(torch.zeros(3), 0.5, stream=stream, generator=generator)
    assert stream.step == 0 and torch.equal(generator.get_state(), state)


def test_stream_on_another_device():
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


def test_a_corrupted_offset():
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
    # The same through a state_dict; the stream does not change.
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
    with pytest.raises(KeyError) as caught:
        stream.load_state_dict(state_dict)
    message = caught.value.args[0]
    assert message.startswith(
        "pygan.NoiseStream: state_dict must have the keys seed, step and offset, got "
    )
    assert message.endswith(str(sorted(state_dict)))
    assert stream.state_dict() == {"seed": 7, "step": 8, "offset": 9}


@pytest.mark.parametrize("state_dict", [torch.zeros(3), [("seed", 1)], None, 5])
def test_state_dict_of_another_type(state_dict):
    stream = NoiseStream(7, step=8, offset=9)
    message = "pygan.NoiseStream: state_dict must have the keys seed, step and offset, got "
    with raises(TypeError, message):
        stream.load_state_dict(state_dict)
    noise = InstanceNoise(Constant(0.5), seed=7)
    with raises(TypeError, message):
        noise.load_state_dict(noise.state_dict() | {"_extra_state": state_dict})
    assert stream.state_dict() == {"seed": 7, "step": 8, "offset": 9} and noise.stream.seed == 7


def test_state_dict_of_mixed_keys():
    with pytest.raises(KeyError, match="must have the keys seed, step and offset, got"):
        NoiseStream(7).load_state_dict({1: 2, "seed": 3})


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (
            torch.zeros(2),
            TypeError,
            "extra state must be a dict with the key count, got a tensor of shape (2,)",
        ),
        ({"steps": 3}, TypeError, "extra state must be a dict with the key count, got dict"),
        ({"count": 1.5}, ValueError, "count must be an int of at least 0, got 1.5"),
        ({"count": -1}, ValueError, "count must be an int of at least 0, got -1"),
    ],
)
@pytest.mark.parametrize("make", [lambda: Constant(0.5), lambda: Adaptive(0.0, 0.5, steps=9)])
def test_extra_state_of_a_schedule(make, state, error, message):
    schedule = make()
    saved = schedule.state_dict()
    with raises(error, f"{type(schedule).__name__}: {message}"):
        schedule.load_state_dict(saved | {"_extra_state": state})
    assert schedule.count == 0


@pytest.mark.parametrize("x", ["x", None, [torch.zeros(2)], 1.0])
def test_the_module_needs_a_tensor(x):
    noise = InstanceNoise(Constant(0.5), seed=1)
    for module in (noise, noise.eval()):
        with raises(TypeError, "pygan.InstanceNoise: x must be a tensor, got "):
            module(x)
    assert noise.stream.step == 0


@pytest.mark.parametrize("factor", ["sigma", "scale"])
def test_out_must_not_share_memory_with_sigma_or_scale(factor):
    y, stream = torch.rand(1000) + 0.5, NoiseStream(0)
    before = y.clone()
    with raises(ValueError, f"pygan.instance_noise: out must share no memory with {factor}"):
        instance_noise(y, **{"sigma": 0.5, factor: y[0]}, stream=stream, out=y)
    assert torch.equal(y, before)
    assert stream.step == 0


@pytest.mark.parametrize("factor", ["sigma", "scale"])
def test_forward_mode_sigma_and_scale_are_refused(factor):
    stream = NoiseStream(0)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(torch.tensor(0.5), torch.tensor(1.0))
        with pytest.raises(NotImplementedError, match=r"^pygan.instance_noise: forward-mode"):
            instance_noise(torch.zeros(3), **{"sigma": 0.5, factor: dual}, stream=stream)
    assert stream.step == 0


@pytest.mark.parametrize("transform", ["grad", "jvp", "vmap"])
def test_transforms_are_refused_before_anything_is_drawn(transform):
    state = torch.get_rng_state()
    calls = {
        "grad": lambda: torch.func.grad(lambda x: instance_noise(x, 0.5).sum())(torch.ones(3)),
        "jvp": lambda: torch.func.jvp(
            lambda x: instance_noise(x, 0.5), (torch.ones(3),), (torch.ones(3),)
        ),
        "vmap": lambda: torch.func.vmap(lambda x: instance_noise(x, 0.5))(torch.ones(3, 2)),
    }
    with pytest.raises(NotImplementedError, match="pygan"):
        calls[transform]()
    assert torch.equal(torch.get_rng_state(), state)


def test_rank_beyond_the_stream():
    stream = NoiseStream.for_rank(0, 1, 2, offset=2**63 - 1)
    with raises(ValueError, "pygan.NoiseStream: offset must leave room for rank 1, got "):
        instance_noise(torch.zeros(3), 0.5, stream=stream)
    assert stream.step == 0


@pytest.mark.parametrize("name", ["sigma", "scale", "bias"])
def test_a_bool_is_not_a_number(name):
    stream = NoiseStream(0)
    with raises(TypeError, f"pygan.instance_noise: {name} must be a number, got bool"):
        instance_noise(torch.zeros(3), **{"sigma": 0.5, name: True}, stream=stream)
    assert stream.step == 0
