"""Checks of scheduling: blocks in any order, several streams, memory, and the first launch of a process."""

import subprocess
import sys

import torch
from registry import check, session, sync

from pygan import NoiseStream, instance_noise
from pygan.fused_losses import discriminator_loss, generator_loss


@check(cuda_only=True)
def last_block():
    """The sums are bitwise equal in 4,000 launches on 8 concurrent streams, with grids of many sizes."""
    sizes = (4097, 100_003, 1_000_003, 4_849_664, 9_999_999)
    data = [torch.randn(n, device="cuda") for n in sizes]
    want = [generator_loss(x, return_stats=True) for x in data]
    want = [(value.clone(), torch.stack(stats).nan_to_num()) for value, stats in want]
    streams = [torch.cuda.Stream() for _ in range(8)]
    sync()
    wrong = 0
    for _ in range(100):
        got = []
        for k, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                for i in range(k, k + 5):
                    got.append((i % 5, generator_loss(data[i % 5], return_stats=True)))
        sync()
        for i, (value, stats) in got:
            same = torch.equal(torch.stack(stats).nan_to_num(), want[i][1])
            wrong += not (same and torch.equal(value, want[i][0]))
    return {"launches": 4000, "wrong": wrong, "ok": wrong == 0}


@check()
def step_read_before_it_moves():
    """All elements of a large tensor use the same step, although the kernel itself advances the step."""
    wrong = 0
    for n in (1056 * 2048, 20_000_003, 3):
        x = torch.zeros(n, device=session.device)
        stream = NoiseStream(5, device=session.device)
        for step in range(120 if session.cuda else 2):
            got = instance_noise(x, 1.0, stream=stream)
            again = NoiseStream(5, device=session.device)
            again.state[1] = step
            wrong += not torch.equal(got, instance_noise(x, 1.0, stream=again))
        wrong += stream.step != step + 1
    return {"wrong": wrong, "ok": wrong == 0}


@check(cuda_only=True)
def backward_on_another_stream():
    """After a forward pass on a side stream, backward from the default stream gives the same gradients."""
    side, x = torch.cuda.Stream(), torch.randn(5_000_011, device="cuda", requires_grad=True)
    (want,) = torch.autograd.grad(generator_loss(x), x)
    sync()
    wrong = 0
    for _ in range(50):
        with torch.cuda.stream(side):
            torch.cuda._sleep(1_000_000)
            value = generator_loss(x * 1.0)
        # No synchronization needed: autograd runs the backward pass on the stream of the forward pass, and waits for
        # it.
        x.grad = None
        value.backward()
        wrong += not torch.equal(x.grad, want)
    return {"wrong": wrong, "ok": wrong == 0}


@check(cuda_only=True)
def memory_is_constant():
    """500 forward and backward passes leave no memory allocated."""
    x = torch.randn(1_000_003, device="cuda", requires_grad=True)

    def forward_and_backward():
        discriminator_loss(instance_noise(x, 0.1), x, return_stats=True)[0].backward()
        x.grad = None

    forward_and_backward()
    sync()
    before = torch.cuda.memory_allocated()
    for _ in range(500):
        forward_and_backward()
    sync()
    after = torch.cuda.memory_allocated()
    return {"before": before, "after": after, "ok": after == before}


FIRST_LAUNCH_IN_A_CAPTURE = """
import torch, pygan
from pygan.fused_losses import discriminator_loss
x = torch.randn(1_000_003, device="cuda")
stream = pygan.NoiseStream(3, device="cuda")
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    noisy = pygan.instance_noise(x, 0.5, stream=stream)
    value = discriminator_loss(noisy, x)
graph.replay()
graph.replay()
torch.cuda.synchronize()
want = pygan.instance_noise(x, 0.5, stream=pygan.NoiseStream(3, step=1, device="cuda"))
assert torch.equal(want, noisy) and stream.step == 2
assert torch.equal(discriminator_loss(want, x), value)
print("cold capture ok")
"""


@check(limit=55, cuda_only=True)
def capture_without_warm_up():
    """The first launches of a process can be captured, even if CUDA loads the kernels lazily. Runs in its own
    process."""
    command = [sys.executable, "-c", FIRST_LAUNCH_IN_A_CAPTURE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=45)
    output = done.stdout + done.stderr
    ok = done.returncode == 0 and "cold capture ok" in output
    return {"ok": ok, "output": output[:900] + output[900:][-600:]}
