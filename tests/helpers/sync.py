"""Detection of host synchronization without a GPU: a mode that refuses ops that would synchronize."""

import contextlib
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pygan._capture_op_audit import reads

aten = torch.ops.aten


class NoSync(TorchDispatchMode):
    """Raises if a value is read or a tensor is copied between devices, and counts the ops.

    For tensors on the device "meta", reads fail anyway, and copies from or to the CPU represent copies from or to a
    GPU. Not detected: values that a GPU implementation reads itself, such as `torch.histc`, and the buffer protocol of
    CPU tensors.
    """

    ops = 0

    def __enter__(self):
        # Functions of PyTorch that do not call an op, so that the mode does not see them.
        self.patches = contextlib.ExitStack()
        for guard, owner, names in (
            (_read, torch.Tensor, ("tolist", "numpy", "__array__")),
            (_made, torch, ("tensor", "as_tensor")),
            (_made, torch.Tensor, ("new_tensor",)),
        ):
            for name in names:
                patch = mock.patch.object(owner, name, guard(getattr(owner, name)))
                self.patches.enter_context(patch)
        return super().__enter__()

    def __exit__(self, *error):
        self.patches.close()
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.ops += 1
        kwargs = kwargs or {}
        assert not reads(func, args, kwargs), f"a value was read back: {func}"
        out = func(*args, **kwargs)
        tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)]
        # A 0-d CPU tensor is passed to kernels as a number, without a copy.
        copies = func.overloadpacket in (aten._to_copy, aten.copy_, aten._foreach_copy_)
        devices = {x.device for x in tensors if copies or x.device.type != "cpu" or x.dim()}
        assert len(devices) < 2, f"from one device to another: {func}, {devices}"
        return out


def _read(method):
    def refuse(self, *args, **kwargs):
        raise AssertionError(f"a value was read back: Tensor.{method.__name__}")

    return refuse


def _made(function):
    def make(*args, **kwargs):
        out = function(*args, **kwargs)
        data = kwargs["data"] if "data" in kwargs else args[function.__name__ == "new_tensor"]
        source = data.device if isinstance(data, torch.Tensor) else torch.device("cpu")
        assert source == out.device, (
            f"from one device to another: {function.__name__}, {out.device}"
        )
        return out

    return make
