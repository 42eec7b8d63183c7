"""Invalid out= of instance_noise, in the function and in the raw op. Nothing is written."""

import numpy as np
import pytest
import torch
from helpers import raises
from torch.autograd import forward_ad

from pygan import NoiseStream, instance_noise

noise_out = torch.ops.pygan.instance_noise.out


def test_a_dual_tensor_as_out_is_refused():
    stream, state = NoiseStream(0), torch.get_rng_state()
    with forward_ad.dual_level():
        out = forward_ad.make_dual(torch.ones(3), torch.ones(3))
        for source in ({"stream": stream}, {}):
            for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
                with (
                    mode(),
                    raises(NotImplementedError, "pygan.instance_noise: forward-mode diff"),
                ):
                    instance_noise(torch.zeros(3), 0.5, out=out, **source)
        for x in (torch.zeros(3), torch.zeros(3, device="meta")):
            with raises(NotImplementedError, "pygan.instance_noise: forward-mode diff"):
                instance_noise([x, x], 0.5, out=[torch.empty_like(x), out.to(x.device)])
        assert torch.equal(forward_ad.unpack_dual(out).primal, torch.ones(3))
    assert stream.step == 0 and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("transform", ["jvp", "grad", "vmap"])
def test_out_inside_a_transform_is_refused(transform):
    out = torch.ones(3)

    def written(out):
        return instance_noise(torch.zeros(3), 0.5, out=out, stream=NoiseStream(0)).sum()

    calls = {
        "jvp": lambda: torch.func.jvp(written, (out,), (out,)),
        "grad": lambda: torch.func.grad(written)(out),
        "vmap": lambda: torch.func.vmap(written)(torch.ones(2, 3)),
    }
    with pytest.raises(NotImplementedError, match=r"^pygan"):
        calls[transform]()
    assert torch.equal(out, torch.ones(3))


def same_memory(state):
    return state.view(torch.float64)


def numpys_view(state):
    """Another storage with the same memory."""
    return torch.from_numpy(state.numpy().view(np.float64))


@pytest.mark.parametrize("view", [same_memory, numpys_view])
def test_the_state_must_not_overlap_inputs_or_outputs(view):
    stream = NoiseStream(3, step=4)
    inside = view(stream.state)
    other = torch.zeros(2, dtype=torch.float64)
    for out in (inside, [other, inside]):
        x = [torch.zeros(2)] * 2 if isinstance(out, list) else torch.zeros(2)
        with raises(
            ValueError, "pygan.instance_noise: out", "must share no memory with the stream's state"
        ):
            instance_noise(x, 0.5, stream=stream, out=out)
    message = (
        "pygan.instance_noise: x, sigma and scale must share no memory with the stream's state"
    )
    with raises(ValueError, message):
        instance_noise(inside, 0.5, stream=stream)
    with raises(ValueError, message):
        instance_noise(torch.zeros(2), inside, stream=stream, out=torch.empty(2))
    for factor in ("sigma", "scale"):
        given = {"sigma": 0.5, factor: inside.detach().requires_grad_()}
        with raises(ValueError, message):
            instance_noise(torch.zeros(2), **given, stream=stream)
    with raises(ValueError, message):
        instance_noise(torch.zeros(2), 0.5, scale=inside[1], stream=stream)
    assert (stream.seed, stream.step) == (3, 4)


MEMORY = torch.zeros(64)
OVERLAPS = {
    "partly x": (MEMORY[:8], MEMORY[4:12], "out must be x or share no memory with it"),
    "x transposed": (MEMORY[:9].view(3, 3), MEMORY[:9].view(3, 3).T, "out must be x or share no"),
    "itself": (MEMORY[:8], torch.zeros(1).expand(8), "out must not overlap itself"),
    "another out": ([MEMORY[:8], MEMORY[8:16]], [MEMORY[20:28], MEMORY[24:32]], "out[0] must share no"),
    "another x": ([MEMORY[:8], MEMORY[8:16]], [MEMORY[8:16], MEMORY[30:38]], "out[0] must share no"),
}  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", OVERLAPS)
def test_overlaps(name, device):
    """Also for tensors without memory: traced calls are refused like eager ones."""

    def moved(given):
        if isinstance(given, list):
            return [moved(x) for x in given]
        if device == "cpu":
            return given
        if given.untyped_storage().data_ptr() != MEMORY.data_ptr():
            return torch.zeros(1, device=device).expand(8)
        return memory.as_strided(given.shape, given.stride(), given.storage_offset())

    memory = torch.zeros(64, device=device)
    x, out, message = OVERLAPS[name]
    x, out = moved(x), moved(out)
    stream = NoiseStream(1, device=device)
    with raises(ValueError, "pygan.instance_noise: " + message):
        instance_noise(x, 0.5, stream=stream, out=out)
    if device == "cpu":
        assert stream.step == 0 and not MEMORY.any()


def test_interleaved_outs_are_accepted():
    both = torch.zeros(4, 6)
    x = [torch.zeros(4, 3)] * 2
    instance_noise(x, 0.5, stream=NoiseStream(1), out=[both[:, :3], both[:, 3:]])
    assert torch.equal(both, torch.cat(instance_noise(x, 0.5, stream=NoiseStream(1)), 1))
