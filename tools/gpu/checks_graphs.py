"""Checks of CUDA graphs: replays on changing streams, and whole training steps."""

import re
import subprocess
import sys
import time
from pathlib import Path

import torch
from registry import check, error_text, session, sync, worst
from trainers import OPTIONS, fresh, parameters_of, trainer_of

import pygan
from pygan import NoiseStream, instance_noise
from pygan.fused_losses import generator_loss
from pygan.penalties import R1, R2, LeCam


def captured(function, warm=3):
    """Capture function() in a graph, after a warm-up on a side stream; returns the graph and the result."""
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
    """Two graphs, replayed on four streams in turn without synchronizing between the replays."""
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


def terms(step):
    return {"l1": (step.fake - step.real).abs().mean()}


def drawn(n):
    return torch.randn(n, 16, device=session.device)  # uses torch's generator


CAPTURED = {
    **OPTIONS,
    "annealed": {"noise": pygan.schedules.Linear(0.5, 0.1, 30)},
    "adaptive": {"noise": pygan.schedules.Adaptive(0.0, 0.5, steps=20, start=0.2)},
    "lazy, scheduled R1": {
        "penalties": [R1(pygan.schedules.Cosine(1.0, 0.1, 40), every=4), R2(1.0, every=3)]
    },
    "LeCam": {"penalties": LeCam(0.3), "loss": "hinge"},
    "shared, joint": {"reuse_fakes": True, "joint": True, "noise": 0.1, "ema": 0.9},
    "separate": {"separate": True, "penalties": R1(1.0)},
    "late": {
        **{"discriminator_start": 20, "generator_terms": terms},
        "adversarial_weight": pygan.schedules.Linear(1.0, 0.1, 30),
    },
    "torch's generator": {"latent": drawn, "augment": lambda x: x + 0.1 * torch.rand_like(x)},
    "pool": {"pool": pygan.FakePool(100, seed=1)},
    "scaler": {"scaler": "cuda"},
    "numbers as rates": {},
    "compiled": {"noise": 0.1},
}


def train_in_a_graph(name, steps=50):
    """Capture a trainer with one of CAPTURED, and print whether its steps equal eager steps (including batches of
    another size and a loaded state), and how fast they are."""
    torch.backends.cuda.matmul.allow_tf32 = False
    exact = name not in ("numbers as rates", "compiled")

    def adam(parameters):
        rate = torch.tensor(1e-3, device=session.device) if exact else 1e-3
        return torch.optim.Adam(parameters, lr=rate, capturable=True, fused=True)

    results, times = [], []
    data = torch.randn(steps, 32, 8, device=session.device)
    for captured in (False, True):
        options = {"latent": 16, **fresh(CAPTURED[name])}
        if "scaler" in options:
            options["scaler"] = torch.amp.GradScaler("cuda")
        trainer = trainer_of(optimizer=adam, **options)
        for module in (trainer.noise, *trainer.penalties):
            if isinstance(module, torch.nn.Module):
                module.to(session.device)
        if name == "compiled":
            trainer.generator = torch.compile(trainer.generator)
            trainer.discriminator = torch.compile(trainer.discriminator)
        if captured and not trainer.capture(data[0]):
            print("capture returned False")
            return
        torch.manual_seed(5)
        kept = []
        for i, x in enumerate(data):
            if i == 12:  # by now, every graph has been replayed and eager steps have run
                torch.cuda.set_sync_debug_mode("error")
            stats = trainer.step(x[:20] if i % 10 == 9 else x)
            kept.append(stats)
            if trainer.noise is not None:
                trainer.noise.step(stats.real_sign)
            torch.cuda.set_sync_debug_mode("default")
            if i == 30:
                trainer.load_state_dict(fresh(trainer.state_dict()))
        flat = [*parameters_of(trainer), *(torch.stack(stats) for stats in kept)]
        results.append([x.detach().clone() for x in flat])
        times.append(seconds_per_call(lambda t=trainer: t.step(data[0])))
    off = worst(abs_difference(a, b) for a, b in zip(*results, strict=True))
    print(
        f"{'captured' if off <= (0.0 if exact else 1e-4) else 'WRONG'}; {steps} steps differ from eager ones by "
        f"{off:.1e}; {1e6 * times[0]:.0f} us eager, {1e6 * times[1]:.0f} us captured"
    )


def abs_difference(a, b):
    return (a.nan_to_num(0.0) - b.nan_to_num(0.0)).abs().max().item()


def seconds_per_call(step, calls=50):
    step()
    sync()
    start = time.perf_counter()
    for _ in range(calls):
        step()
    sync()
    return (time.perf_counter() - start) / calls


def train_in_processes(names, report, end):
    """Run a process for each of the options, and report its result."""
    first = str(Path(__file__).with_name("first.py"))
    running = {}
    for name in names:
        command = [sys.executable, first, "-", "--graph", name]
        running[name] = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        session.children.append(running[name])
    for name, process in running.items():
        try:
            out, error = process.communicate(timeout=max(0.1, end - time.monotonic()))
            report[name] = result_line(process.returncode, out, error)
        except subprocess.TimeoutExpired:
            process.kill()
            report[name] = "did not end"
        except Exception as error:
            report[name] = error_text(error)
    session.children.clear()


@check(limit=120, cuda_only=True)
def trainer_in_a_graph():
    """The options with which captured and eager steps are bitwise equal.

    Each one runs in its own process, because a failed capture may leave the process unusable.
    """
    report, end = {}, time.monotonic() + 110
    session.found.update(report=report)
    names = list(CAPTURED)
    for start in range(0, len(names), 8):  # 8 at a time, because each process has a CUDA context
        train_in_processes(names[start : start + 8], report, end)
    return {"report": report, "ok": all(str(v).startswith("captured") for v in report.values())}


@check(cuda_only=True)
def what_cannot_be_captured():
    """A step that synchronizes is refused before anything is captured, and the trainer continues to work."""
    found = {}
    session.found.update(found=found)

    def adam(parameters):
        return torch.optim.Adam(parameters, lr=1e-3, capturable=True, fused=True)

    x = torch.randn(32, 8, device=session.device)
    planted = {
        "item": {"augment": lambda x: x * x.max().item()},
        "tensor of a number": {"augment": lambda x: x * torch.tensor(2.0, device=x.device)},
        "host latents": {"latent": lambda n: torch.randn(n, 16).to(session.device)},
        "pinned latents": {
            "latent": lambda n: (
                torch.randn(n, 16).pin_memory().to(session.device, non_blocking=True)
            )
        },
    }
    for name, options in planted.items():
        trainer = trainer_of(optimizer=adam, **{"latent": 16, **options})
        before = [p.clone() for p in parameters_of(trainer)]
        try:
            trainer.capture(x)
            found[name] = "was captured"
        except RuntimeError:
            now = parameters_of(trainer)
            if not all(torch.equal(a, b) for a, b in zip(before, now, strict=True)):
                found[name] = "was trained"
        trainer.step(x)
    sync()
    return {"found": found, "ok": not found}


def result_line(code, out, error):
    """The relevant line of a process's output: the last line, or the first error (which caused the others) and its
    location."""
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
