"""same_noise=True: the tensors of a call get the same z, as for real and generated samples in distillation."""

import pytest
import torch
from helpers import DEVICES, raises
from helpers.noise import INPUTS, LAYOUTS, SHAPE, inputs, z_of

from pygan import NoiseStream, instance_noise, instance_noise_pair

pytestmark = pytest.mark.usefixtures("fresh")


def at(step=6, device="cpu"):
    return NoiseStream(5, step=step, offset=3, device=device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["number", "0-d", "per sample"])
@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_a_list_uses_one_step(count, kind, device):
    """Each tensor gets the noise of a single call at that step, for any dtypes and any number of launches."""
    n = torch.Size(SHAPE).numel()
    xs = [inputs(n, INPUTS[k % 5], seed=k).view(SHAPE).to(device) for k in range(count)]
    factors = {"0-d": torch.tensor(0.3), "per sample": torch.rand(SHAPE[0], dtype=torch.float64)}
    sigma = factors[kind].to(device) if kind in factors else 0.5
    top = 2**64 - 1
    stream, into = at(top, device), at(top, device)
    together = instance_noise(xs, sigma, stream=stream, scale=0.25, same_noise=True)
    outs = [torch.empty_like(y) for y in together]
    instance_noise(xs, sigma, stream=into, scale=0.25, same_noise=True, out=outs)
    for x, y, out in zip(xs, together, outs, strict=True):
        alone = instance_noise(x, sigma, stream=at(top, device), scale=0.25)
        assert torch.equal(y, alone) and torch.equal(out, alone)
    assert stream.step == into.step == 0


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("other", ["contiguous", "channels_last"])
@pytest.mark.parametrize("per_sample", [False, True])
def test_every_layout_gets_the_same_noise(per_sample, other, layout, device):
    zeros = torch.zeros(SHAPE, device=device)
    first, second = LAYOUTS[layout](zeros), LAYOUTS[other](zeros)
    sigma = torch.rand(SHAPE[0], device=device) if per_sample else 0.5
    one, two = instance_noise([first, second], sigma, stream=at(device=device), same_noise=True)
    # Layouts such as "sliced rows" have 99s only next to x.
    assert torch.equal(one, two) and one.stride() == two.stride()
    assert torch.equal(one, instance_noise(first, sigma, stream=at(device=device)))
    outs = [torch.empty_like(first), second if layout != "expanded" else torch.empty_like(second)]
    instance_noise([first, second], sigma, stream=at(device=device), same_noise=True, out=outs)
    assert torch.equal(outs[0], one) and torch.equal(outs[1], one)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced", "transposed"])
@pytest.mark.parametrize("kind", ["number", "per sample"])
@pytest.mark.parametrize("learnt", [False, True])
def test_a_pair_uses_one_step(learnt, kind, layout, device):
    """Real and fake at the same timestep: sqrt(abar) x + sigma z with the same z."""
    real = LAYOUTS[layout](torch.randn(SHAPE, device=device))
    fake = torch.randn(SHAPE, device=device)
    sigma = torch.rand(4, device=device) if kind == "per sample" else torch.tensor(0.5).to(device)
    scale = torch.rand(4, device=device)
    both = torch.cat([sigma, sigma]) if kind == "per sample" else sigma.clone()
    stream = at(device=device)
    batch = instance_noise_pair(
        *(real, fake, both.requires_grad_(learnt)),
        stream=stream,
        scale=torch.cat([scale, scale]),
        same_noise=True,
    )
    z = instance_noise_pair(
        *(torch.zeros_like(real), torch.zeros_like(fake), torch.ones(8, device=device)),
        stream=at(device=device),
        same_noise=True,
    ).chunk(2)
    assert torch.equal(*z) and stream.step == 7
    assert batch.is_contiguous(memory_format=torch.channels_last) == (layout == "channels_last")
    for noisy, x in zip(batch.chunk(2), (real, fake), strict=True):
        own = sigma.view(-1, 1, 1, 1)
        want = scale.view(-1, 1, 1, 1).double() * x.double() + own.double() * z[0].double()
        torch.testing.assert_close(noisy.double(), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_the_noise_of_a_pair_cancels_in_the_difference(device):
    real, fake = torch.randn(2, 8, 300, dtype=torch.float64, device=device)
    noisy = instance_noise_pair(real, fake, 0.5, stream=at(device=device), same_noise=True)
    one, other = noisy.chunk(2)
    torch.testing.assert_close(one - other, real - fake)
    apart = instance_noise_pair(real, fake, 0.5, stream=at(device=device))
    assert (apart[:8] - apart[8:] - (real - fake)).abs().mean() > 0.1


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_of_the_same_noise_match_differences(device):
    x, y = torch.randn(2, 2, 3, dtype=torch.float64, device=device)
    sigma = torch.rand(2, dtype=torch.float64, device=device)
    for tensor in (x, y, sigma):
        tensor.requires_grad_()

    def of_list(x, y, sigma):
        stream = at(device=device)
        return tuple(
            instance_noise([x, y.t().contiguous().t()], sigma, stream=stream, same_noise=True)
        )

    def of_pair(x, y, sigma):
        stream = at(device=device)
        return instance_noise_pair(x, y, torch.cat([sigma, sigma]), stream=stream, same_noise=True)

    for function in (of_list, of_pair):
        assert torch.autograd.gradcheck(function, (x, y, sigma))
        assert torch.autograd.gradgradcheck(function, (x, y, sigma))
    one, other = of_list(x, y, sigma)
    grads = [torch.autograd.grad(z.sum(), sigma, retain_graph=True)[0] for z in (one, other)]
    assert torch.equal(*grads)


def test_a_stream_continues_after_same_noise():
    """Also resumed from its state_dict, and in agreement with calls for single tensors."""
    xs = [torch.zeros(2, 3)] * 3
    stream = at()
    first = instance_noise(xs, 1.0, stream=stream, same_noise=True)
    saved = stream.state_dict()
    second = instance_noise(xs, 1.0, stream=stream, same_noise=True)
    stream.load_state_dict(saved)
    again = instance_noise(xs, 1.0, stream=stream, same_noise=True)
    assert torch.equal(second[0], again[2]) and not torch.equal(first[0], second[0])
    for step, drawn in ((6, first), (7, second)):
        assert torch.equal(drawn[1].flatten(), z_of(6, 5, step, 3))


def test_ranks_draw_the_noise_of_one_process():
    x, y = torch.randn(2, 6, 5)
    sigma = torch.rand(6)
    whole = instance_noise([x, y], sigma, stream=NoiseStream(7), same_noise=True)
    parts = [
        instance_noise(
            [x.chunk(2)[rank], y.chunk(2)[rank]],
            sigma.chunk(2)[rank],
            stream=NoiseStream.for_rank(7, rank, 2),
            same_noise=True,
        )
        for rank in range(2)
    ]
    for one, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(one, torch.cat(pieces))


def test_without_a_stream():
    xs = [torch.zeros(3, 4)] * 2
    torch.manual_seed(1)
    one, other = instance_noise(xs, 0.5, same_noise=True)
    assert torch.equal(one, other)
    torch.manual_seed(1)
    assert torch.equal(one, instance_noise(xs[0], 0.5))
    batch = instance_noise_pair(*xs, 0.5, same_noise=True)
    assert torch.equal(*batch.chunk(2)) and not torch.equal(batch[:3], one)


def test_invalid_arguments_are_refused():
    stream, x = at(), torch.zeros(4, 3)
    refused = [
        ([x, x[1:]], "x[1] must have the shape of x[0], [4, 3], for same_noise=True, got [3, 3]"),
        ([x, x.T], "x[1] must have the shape of x[0], [4, 3], for same_noise=True, got [3, 4]"),
        (x, "same_noise must be False for a single tensor, got True"),
    ]
    for given, message in refused:
        with raises(ValueError, "pygan.instance_noise: " + message):
            instance_noise(given, 0.5, stream=stream, same_noise=True)
    with raises(
        ValueError,
        "pygan.instance_noise_pair: fake must have the shape of real, [4, 3], for "
        "same_noise=True, got [3, 3]",
    ):
        instance_noise_pair(x, x[1:], 0.5, stream=stream, same_noise=True)
    for value in (1, None, "yes"):
        with raises(TypeError, "pygan.instance_noise: same_noise must be a bool, got "):
            instance_noise([x, x], 0.5, stream=stream, same_noise=value)
        with raises(TypeError, "pygan.instance_noise_pair: same_noise must be a bool, got "):
            instance_noise_pair(x, x, 0.5, stream=stream, same_noise=value)
    assert stream.step == 6
