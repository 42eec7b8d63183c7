"""Checks of CUDA graphs: replays on changing streams, and whole training steps."""

import re
import subprocess
import sys
import time
from pathlib import Path

import torch
from registry import check, error_text, session, sync, worst
from trainers import OPTIONS, fresh, parameters_of, trainer_of

from pygan import NoiseStream, instance_noise
from pygan.fused_losses import generator_loss


def captured(function, warm=3):
    """A graph of function() after a warm-up on a side stream, and what function() returned in it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(warm):
            function()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function()
    return graph, result


@check(cuda_only=True)
def replays_on_changing_streams():
    """Two graphs, replayed on four streams in turn with no wait between the replays."""
    x = torch.randn(3_000_001, device="cuda")
    made = []
    for seed in (1, 2):
        s = NoiseStream(seed, device="cuda")
        graph, out = captured(lambda s=s: (instance_noise(x, 0.5, stream=s), generator_loss(x)))
        made.append((seed, graph, out, s, s.step))
    want = generator_loss(x)
    streams = [torch.cuda.Stream() for _ in range(4)]
    sync()
    for k in range(400):
        for j, (_, graph, *_) in enumerate(made):
            with torch.cuda.stream(streams[(k + 2 * j) % 4]):
                graph.replay()
    sync()
    wrong = []
    for seed, _, (noisy, value), s, first in made:
        if s.step != first + 400:
            wrong.append(("step", s.step, first + 400))
        last = NoiseStream(seed, step=first + 399, device="cuda")
        if not torch.equal(instance_noise(x, 0.5, stream=last), noisy):
            wrong.append("noise")
        if not torch.equal(value, want):
            wrong.append("loss")
    return {"wrong": wrong, "ok": not wrong}


def train_in_a_graph(name):
    """Captures a step with one of OPTIONS and prints whether five replays train as five steps do."""

    def adam(parameters):
        return torch.optim.Adam(parameters, lr=1e-3, capturable=True, fused=True)

    data = torch.randn(32, 8, device=session.device)
    replayed = trainer_of(optimizer=adam, **fresh(OPTIONS[name]))
    graph, _ = captured(lambda: replayed.step(data), warm=3)
    for _ in range(5):
        graph.replay()
    stepped = trainer_of(optimizer=adam, **fresh(OPTIONS[name]))
    for _ in range(3 + 5):  # of the warm-up and of the replays: capturing itself trains nothing
        stepped.step(data)
    pairs = zip(parameters_of(replayed), parameters_of(stepped))
    off = worst((a - b).abs().max().item() for a, b in pairs)
    print(
        f"{'captured' if off < 1e-4 else 'WRONG'}; 5 replays differ from 5 steps by {off:.1e}; "
        f"trainer.steps {replayed.steps} for {stepped.steps}"
    )


@check(limit=70, cuda_only=True)
def trainer_in_a_graph():
    """With which options can one graph of a whole step be captured, and do its replays train as steps do?

    One process for each: a capture that fails may leave its process unusable.
    """
    report, end = {}, time.monotonic() + 60
    session.found.update(report=report)
    first = str(Path(__file__).with_name("first.py"))
    running = {}
    for name in OPTIONS:
        command = [sys.executable, first, "-", "--graph", name]
        running[name] = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        session.children.append(running[name])
    for name, process in running.items():
        try:
            out, error = process.communicate(timeout=max(0.1, end - time.monotonic()))
            report[name] = said_by(process.returncode, out, error)
        except subprocess.TimeoutExpired:
            process.kill()
            report[name] = "did not end"
        except Exception as error:
            report[name] = error_text(error)
    session.children.clear()
    return {"report": report, "ok": all(str(v).startswith("captured") for v in report.values())}


def said_by(code, out, error):
    """What to keep of a process's output: its last line, or the first error, which caused the others, and its place."""
    lines = [x for x in out.splitlines() if x.strip()]
    if code == 0 and lines:
        return lines[-1][:220]
    lines = error.splitlines()
    begins = [k for k, x in enumerate(lines) if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", x)]
    first = begins[0] if begins else len(lines)
    frames = [x.strip()[-120:] for x in lines[:first] if x.strip().startswith("File")]
    where = [x for x in frames if "torch/cuda/graphs" not in x]
    message = " ".join(lines[first : first + 2])[:300] or error[-300:]
    return [f"exit {code}", message, *where[-4:]]
