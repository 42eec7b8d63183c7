"""CUDA graphs without a GPU: a tape of a step's ops that is replayed on the same memory, without running host code."""

import contextlib
import importlib
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import pygan
from helpers.trainer import networks
from pygan._capture import CapturedSteps
from pygan._capture_op_audit import storage_of

aten = torch.ops.aten
NOT_PLAYED = (aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty)


class Tape(TorchDispatchMode):
    """Records ops as a capture does: with their tensors, and with the current values of numbers."""

    def __init__(self):
        super().__init__()
        self.calls, self.made, self._storages = [], {}, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func.namespace != "profiler":
            given = {storage_of(x) for x in tensors(args, kwargs)}
            # Results with new memory; views and arguments that were written to need no copy.
            new = [storage_of(x) not in given for x in tensors(out)]
            for x in tensors(out):
                if storage_of(x) not in given:
                    self.made[storage_of(x)] = x
            self.calls.append((func, args, kwargs, out, new))
        return out

    @torch.no_grad()
    def play(self):
        for func, args, kwargs, out, new in self.calls:
            if func.overloadpacket in NOT_PLAYED or (new and not any(new) and is_view(func)):
                continue
            again = func(*args, **kwargs)
            for x, y, yes in zip(tensors(out), tensors(again), new, strict=True):
                if yes:
                    x.detach().copy_(y)

    @torch.no_grad()
    def poison(self):
        """Overwrite everything that is not kept, as another graph of the same memory pool may do."""
        for x in self.made.values():
            flat = torch.empty(0, dtype=torch.uint8).set_(x.untyped_storage())
            flat.fill_(0xFF)  # NaN, -1, True


def tensors(*trees):
    return [x for x in tree_leaves(trees) if isinstance(x, torch.Tensor)]


def is_view(func):
    return not any(
        a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments
    )


class Tapes:
    """A replacement for CudaGraphs that replays functions on the CPU, without running their Python code."""

    def __init__(self, device=None):
        self.tapes, self.replays = [], 0

    def warm_up(self):
        return contextlib.nullcontext()

    def without_sync(self):
        return contextlib.nullcontext()

    def capture(self, function):
        tape = Tape()
        with tape:
            result = function()
        self.tapes.append(tape)

        def replay():
            for other in self.tapes:
                other.poison()
            tape.play()

        return self.counted(replay), result

    def counted(self, replay):
        def count():
            self.replays += 1
            replay()

        return count


def capture(trainer, real, labels=None):
    """`trainer.capture` with tapes on the CPU. Returns a counter of the replays."""
    tapes = Tapes()
    if trainer._networks.g.device.type == "cuda":
        assert trainer.capture(real, labels)
        for graph in trainer._captured._graphs.values():
            graph.replay = tapes.counted(graph.replay)
    else:
        trainer.release()
        trainer._captured = CapturedSteps(trainer, real, labels, tapes)
    return tapes


@contextlib.contextmanager
def capturable_on_the_cpu():
    """Allows optimizers with capturable=True on the CPU, which torch refuses."""
    modules = [
        importlib.import_module(f"torch.optim.{name}")
        for name in ("adam", "nadam", "radam", "rmsprop", "adamax", "adadelta", "asgd", "rprop")
    ]
    with contextlib.ExitStack() as stack:
        for module in modules:
            if hasattr(module, "_get_capturable_supported_devices"):
                stack.enter_context(
                    mock.patch.object(
                        module, "_get_capturable_supported_devices", return_value=["cpu"]
                    )
                )
        yield


def fused_adam(parameters, **options):
    return torch.optim.Adam(
        parameters, **{"lr": 2.0**-6, "betas": (0.5, 0.99), "fused": True, **options}
    )


def setup(optimizer=None, seed=0, networks=networks, device="cpu", **options):
    optimizer = optimizer or (lambda p: fused_adam(p, capturable=True))
    nets = [net.to(device) for net in networks(seed)]
    optimizers = [optimizer(net.parameters()) for net in nets]
    for value in options.values():
        for x in value if isinstance(value, list) else [value]:
            if isinstance(x, torch.nn.Module):
                x.to(device)
    return pygan.GANTrainer(*nets, *optimizers, **{"latent": 4, "seed": 3, **options})
