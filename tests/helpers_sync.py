"""Host synchronization, found without a GPU: a mode that refuses what would wait for one."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
READS = (aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal)


class NoSync(TorchDispatchMode):
    """Fails where a value is read or a tensor goes from one device to another, and counts the ops that it saw.

    On tensors of the device "meta" a read fails anyway, and a copy from or to the CPU stands for one to a GPU.
    """

    ops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.ops += 1
        assert func.overloadpacket not in READS, f"a value was read back: {func}"
        out = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)]
        # A 0-d tensor of the CPU is an argument of a kernel, a number: no copy.
        copies = func.overloadpacket in (aten._to_copy, aten.copy_, aten._foreach_copy_)
        devices = {x.device for x in tensors if copies or x.device.type != "cpu" or x.dim()}
        assert len(devices) < 2, f"from one device to another: {func}, {devices}"
        return out
