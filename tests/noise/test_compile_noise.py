"""Instance noise, and a whole step, under torch.compile: same results, gradients and stream states as eager."""

import copy
import subprocess
import sys

import pytest
import torch
from helpers import DEVICES
from helpers.compile import BACKENDS, compare, one_graph
from helpers.noise import LAYOUTS

from pygan import InstanceNoise, NoiseStream, fused_losses, instance_noise, instance_noise_pair
from pygan._compile import COMPILED, _uncompiled
from pygan.fused_losses import discriminator_loss
from pygan.schedules import Constant

pytestmark = pytest.mark.usefixtures("fresh")


def noise_arguments(kind, shape, device, layout):
    def make():
        x = torch.linspace(-1, 1, torch.Size(shape).numel(), device=device).view(shape)
        if layout == "channels_last":
            x = x.contiguous(memory_format=torch.channels_last)
        sigma = {
            "float": 0.5,
            "0-d": torch.tensor(0.3, device=device),
            "0-d, requires grad": torch.tensor(0.3, device=device, requires_grad=True),
            "per sample": torch.linspace(0, 1, shape[0], device=device),
            "per sample, requires grad": torch.linspace(
                0, 1, shape[0], device=device
            ).requires_grad_(),
        }[kind]
        return [x.requires_grad_(), sigma, NoiseStream(2**63 + 1, step=5, offset=3, device=device)]

    return make


def constant(sigma):
    """A constant, because inductor would change the order of the sums in a scale's gradient, which PyTorch computes."""
    return sigma.detach() if isinstance(sigma, torch.Tensor) else sigma


SIGMAS = ["float", "0-d", "0-d, requires grad", "per sample", "per sample, requires grad"]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_compiled_noise(sigma, layout, backend, device):
    def function(x, sigma, stream):
        first = instance_noise(x, sigma, stream=stream, scale=0.5, bias=0.1)
        return first, instance_noise(x, sigma, stream=stream, scale=constant(sigma))

    shapes = [(4, 3, 8, 8), (5, 2, 4, 6)]
    compare(function, backend, *[noise_arguments(sigma, s, device, layout) for s in shapes])


@pytest.mark.parametrize("device", DEVICES)
def test_gradient_of_sigma_under_inductor(device):
    """Backward uses the step of its forward, although the stream has advanced in the same graph."""
    x = torch.zeros(1000, device=device)
    grads = []
    for run in (torch.compile(instance_noise, fullgraph=COMPILED), instance_noise):
        sigma = torch.tensor(0.5, device=device, requires_grad=True)
        out = run(x, sigma, stream=NoiseStream(1, step=5, device=device))
        grads += torch.autograd.grad(out.sum(), sigma)
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_compiled_lists_and_pairs(sigma, backend, device):
    def function(x, sigma, stream):
        images = (x.abs() * 100).byte()
        listed = instance_noise([x, x.double()], sigma, stream=stream, scale=constant(sigma))
        same = instance_noise([x, x * 2], sigma, stream=stream, same_noise=True)
        scale = 0.01
        if isinstance(sigma, torch.Tensor) and sigma.dim() == 1:
            sigma = torch.cat([sigma, sigma])
            scale = constant(sigma)
        pair = instance_noise_pair(images, x, sigma, stream=stream, scale=scale)
        pair_of_same = instance_noise_pair(images, x, sigma, stream=stream, same_noise=True)
        return *listed, *same, pair, pair_of_same

    shapes = [(4, 3, 8, 8), (5, 2, 4, 6)]
    compare(
        function, backend, *[noise_arguments(sigma, s, device, "channels_last") for s in shapes]
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", SIGMAS[2::2])
def test_compiled_gradient_of_scale(kind, backend, device):
    def function(x, scale, stream):
        x = x + 2  # so that its sum, the gradient, is not 0
        one = instance_noise(x, 0.5, stream=stream, scale=scale)
        call = {"stream": stream, "same_noise": True}
        if scale.dim() == 0:
            return one, *instance_noise([x, x * 2], 0.5, scale=scale, **call)
        both = torch.cat([scale, scale])
        return one, instance_noise_pair(x, x * 2, 0.5, scale=both, **call)

    shapes = [(4, 3, 8, 8), (5, 2, 4, 6)]
    arguments = [noise_arguments(kind, s, device, "contiguous") for s in shapes]
    compare(function, backend, *arguments, exact=False)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_uint8_to_half(backend, device):
    def function(images, stream):
        return instance_noise(
            images, 0.1, stream=stream, scale=1 / 127.5, bias=-1.0, dtype=torch.float16
        )

    def arguments(n):
        images = torch.arange(n, dtype=torch.uint8, device=device)
        return lambda: [images, NoiseStream(1, device=device)]

    compare(function, backend, arguments(100), arguments(200))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_out(backend, device):
    def function(x, stream, out):
        instance_noise(x, 0.5, stream=stream, out=out)
        return out * 2, instance_noise(out, 0.5, stream=stream, out=out) + 0

    def arguments(n):
        return lambda: [
            torch.ones(n, 2, device=device),
            NoiseStream(1, device=device),
            torch.zeros(n, 2, device=device),  # dynamo does not support a strided out= of any op
        ]

    compare(function, backend, arguments(10), arguments(20))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_without_a_stream(backend, device):
    """New noise at every call, standard normal, and seeded by torch.manual_seed."""
    compiled = torch.compile(
        lambda x: instance_noise(x, 1.0), fullgraph=COMPILED, dynamic=True, backend=backend
    )
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append([compiled(torch.zeros(n, device=device)) for n in (10_000, 10_000, 5_000)])
    for a, b in zip(draws[0], draws[1], strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(draws[0][0], draws[0][1])
    assert not torch.equal(draws[0][0], draws[2][0])
    for z in draws[0]:
        assert abs(z.mean()) < 5 / z.numel() ** 0.5
        assert abs(z.var() - 1) < 5 * (2 / z.numel()) ** 0.5
    if backend == "aot_eager":  # inductor uses its own generator
        torch.manual_seed(1)
        for z in draws[0]:
            assert torch.equal(instance_noise(torch.zeros_like(z), 1.0), z)


@one_graph
@pytest.mark.parametrize("device", DEVICES)
def test_a_new_value_of_sigma_does_not_recompile(device):
    """A schedule fills a tensor with a new sigma at every step. (A number would be a constant in the graph.)"""
    compilations = 0

    def counting(graph, _):
        nonlocal compilations
        compilations += 1
        return graph

    compiled = torch.compile(instance_noise, fullgraph=COMPILED, dynamic=True, backend=counting)
    stream, plain = NoiseStream(1, device=device), NoiseStream(1, device=device)
    x = torch.ones(10, device=device)
    sigma = torch.tensor(0.5, device=device)
    for value in (0.5, 0.4, 0.3):
        got = compiled(x, sigma.fill_(value), stream=stream)
        assert torch.equal(got, instance_noise(x, value, stream=plain))
    assert compilations == 1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_training_step(backend, device):
    """Noise, network and loss in one graph, as in a discriminator step."""
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    net = net.to(device)

    def function(real, fake, sigma, stream):
        real_logits = net(instance_noise(real, sigma, stream=stream))
        fake_logits = net(instance_noise(fake, sigma, stream=stream))
        value, stats = discriminator_loss(real_logits, fake_logits, return_stats=True)
        return value, stats.jsd_bound, stats.nonfinite

    compiled = torch.compile(function, fullgraph=COMPILED, backend=backend, dynamic=True)
    for n in (5, 9):
        results = []
        for run in (compiled, function):
            stream = NoiseStream(3, device=device)
            data = torch.linspace(-1, 1, 2 * n * 6, device=device).view(2, n, 6)
            value, bound, nonfinite = run(*data, torch.tensor(0.5, device=device), stream)
            grads = torch.autograd.grad(value, list(net.parameters()))
            assert stream.step == 2
            results.append([value, bound, nonfinite, *grads])
        torch.testing.assert_close(*results)


@one_graph
def test_another_stream_does_not_recompile():
    """The stream's state is marked as having a static address, which CUDA graphs require for what they write, without a
    guard."""
    marks, compilations = [], 0

    def counting(graph, _):
        nonlocal compilations
        compilations += 1
        inputs = [
            node.meta["tensor_dict"] for node in graph.graph.nodes if node.op == "placeholder"
        ]
        marks.append([x.get("_dynamo_static_input_type") for x in inputs])
        return graph

    known = torch.zeros(())
    torch._dynamo.mark_static_address(known)
    x = torch.zeros(10)
    noise = InstanceNoise(Constant(0.5), seed=1)
    compiled = torch.compile(instance_noise, fullgraph=True, backend=counting)
    for seed, stream in enumerate([NoiseStream(0), NoiseStream(1).to("cpu"), noise.cpu().stream]):
        for used in (stream, copy.deepcopy(stream)):
            plain = NoiseStream(seed if seed < 2 else 1)
            got = compiled(x, 0.5, stream=used)
            assert torch.equal(got, instance_noise(x, 0.5, stream=plain))
            assert vars(used.state) == vars(known)
    assert compilations == 1
    assert sorted(marks[0], key=str) == [None, "unguarded"]


@one_graph
@pytest.mark.slow
@pytest.mark.cuda
def test_cuda_graphs_of_torch_compile():
    """mode="reduce-overhead" captures noise and loss, and its replays draw new noise."""
    counters = torch._dynamo.utils.counters
    counters.clear()

    def step(x, stream):
        noisy = instance_noise(x, 0.5, stream=stream)
        return noisy, discriminator_loss(noisy, noisy + 1)

    compiled = torch.compile(step, fullgraph=True, mode="reduce-overhead")
    x = torch.ones(64, 3, 8, 8, device="cuda")
    stream, plain = (NoiseStream(1, device="cuda") for _ in range(2))
    for _ in range(5):
        torch.compiler.cudagraph_mark_step_begin()
        got = [t.clone() for t in compiled(x, stream)]
        torch.testing.assert_close(got, list(step(x, plain)))
    assert counters["inductor"]["cudagraph_skips"] == 0


FUNCTIONS = {
    instance_noise: lambda f, x, y: f(x, 0.5, stream=NoiseStream(1, device=x.device)),
    instance_noise_pair: lambda f, x, y: f(x, y, 0.5, stream=NoiseStream(1, device=x.device)),
    fused_losses.discriminator_loss: lambda f, x, y: f(x, y, reduction="none"),
    fused_losses.generator_loss: lambda f, x, y: f(x, reduction="none"),
    fused_losses.discriminator_loss_and_grad: lambda f, x, y: f(x, y),
    fused_losses.generator_loss_and_grad: lambda f, x, y: f(x),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["channels_last", "transposed"])
def test_directly_compiled_functions(layout, device):
    """With inductor, which before torch 2.8 would pass dense tensors with another memory order to the ops."""
    x = LAYOUTS[layout](torch.randn(4, 3, 6, 5, device=device))
    for function, call in FUNCTIONS.items():
        want = call(function, x, x.flip(0))
        got = call(torch.compile(function), x, x.flip(0))
        torch.testing.assert_close(got, want, rtol=0, atol=0)


@pytest.mark.parametrize("direct", [True, False])
def test_functions_that_older_torch_does_not_compile(direct):
    def whether():
        return torch.compiler.is_compiling()

    function = _uncompiled(whether)

    def caller():
        return function()

    assert function.__name__ == "whether" and not hasattr(function, "_torchdynamo_orig_callable")
    assert torch.compile(whether, backend="eager")()
    compiled = torch.compile(function if direct else caller, backend="eager")
    for _ in range(2):
        assert not compiled()


def test_importing_pygan_does_not_import_dynamo():
    """Importing it takes seconds."""
    code = "import sys, pygan; print('torch._dynamo' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
