"""OpAudit: checks every op of a step for things that a CUDA graph cannot do, or would freeze.

A graph repeats kernels with the arguments of the capture: the same memory, the same host numbers. Two steps are
therefore compared op by op: whatever differs between them is what the graph would get wrong.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["OpAudit", "reads", "storage_of"]

_aten = torch.ops.aten
# Ops that return a Python number, or a tensor whose size depends on values.
_TAGS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
_INDEXING = (_aten.index, _aten.index_put, _aten.index_put_)
_COPIES = (_aten._to_copy, _aten.copy_, _aten._foreach_copy_)

_MUST = "GANTrainer.capture: a step must"


class OpAudit(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no annotations
    """Dispatch mode that raises if the replay of a captured graph would differ from the code that runs in it.

    Args:
        device: the device on which everything must run.
        like: the audit of an earlier step of the same kind, to compare with.

    Attributes:
        written: the storages that existed before the step and that it has written to.

    Raises:
        RuntimeError: an op reads a value back, runs on another device or draws from its own generator; or the step
            differs from the earlier one in its ops, in a host number, or in the memory that it starts with.
    """

    def __init__(self, device: torch.device, like: OpAudit | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device, self._like = device, like
        self._calls: list[tuple[Any, list[Any], list[Any]]] = []
        self._made: set[int] = set()
        self._kept: list[
            Tensor
        ] = []  # keeps them alive, so that their memory cannot be reused and mistaken for new memory
        self.written: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func.namespace == "profiler":
            return out
        leaves = tree_leaves((args, kwargs))
        given = [x for x in leaves if isinstance(x, Tensor)]
        numbers = [x for x in leaves if not isinstance(x, Tensor)]
        made = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        written = list(map(storage_of, _written(func, args, kwargs)))
        if func is _aten.lift_fresh.default:
            self._made.update(map(storage_of, given))  # recorded by its value, which is compared
        self._check_devices(func, given, made, written)
        self._check_generators(func, numbers)
        if reads(func, args, kwargs):
            if any(x.device == self._device for x in given):
                raise RuntimeError(f"{_MUST} not read values back to the host, got {func}")
            numbers.append(out)
        numbers += self._values(func, given)
        outer = [x for x in given if storage_of(x) not in self._made]
        self._kept += outer
        self.written.update(set(written).intersection(map(storage_of, outer)))
        self._compare(func, numbers, [self._place(x) for x in given])
        inputs = set(map(storage_of, given))
        self._made.update(key for key in map(storage_of, made) if key not in inputs)
        return out

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        if error[0] is None and self._like is not None:
            theirs = self._like._calls[len(self._calls) :]
            if theirs:
                raise RuntimeError(
                    f"{_MUST} make the same calls each time, got none where there was {theirs[0][0]}"
                )

    def _place(self, x: Tensor) -> tuple[Any, ...]:
        """A tensor's layout, and its memory if it existed before the step."""
        key = storage_of(x)
        memory = None if key in self._made else key
        return x.shape, x.stride(), x.dtype, x.storage_offset(), memory

    def _values(self, func: Any, given: list[Tensor]) -> list[Any]:
        """Host numbers that the call gets as tensors."""
        if func is _aten.lift_fresh.default:  # torch.tensor(...)
            (x,) = given
            if x.device.type != "cpu" or x.dim():
                raise RuntimeError(
                    f"{_MUST} not create tensors from Python numbers, got torch.tensor or similar, of shape "
                    f"{tuple(x.shape)}; create it once, before the steps"
                )
            return [x.item()]
        if self._device.type == "cpu":
            return []
        return [x.item() for x in given if x.device.type == "cpu" and x.numel() == 1]

    def _check_devices(
        self, func: Any, given: list[Tensor], made: list[Tensor], written: list[int]
    ) -> None:
        off = [x for x in given + made if x.device != self._device]
        if not off:
            return
        # A 0-d CPU tensor created in the step is a kernel argument, a number. An earlier one may change.
        passes = all(
            x.device.type == "cpu" and x.numel() <= 1 and self._is_made(x, made) for x in off
        )
        crosses = len(off) < len(given + made) and func.overloadpacket in _COPIES
        if not passes or crosses or not set(written).isdisjoint(map(storage_of, off)):
            raise RuntimeError(
                f"{_MUST} run on {self._device} only, got {func} on "
                + " and ".join(sorted({str(x.device) for x in given + made}))
            )

    def _is_made(self, x: Tensor, made: list[Tensor]) -> bool:
        return storage_of(x) in self._made or any(x is y for y in made)

    def _check_generators(self, func: Any, numbers: list[Any]) -> None:
        for x in numbers:
            if isinstance(x, torch.Generator):
                raise RuntimeError(
                    f"{_MUST} draw from torch's default generators or a pygan.NoiseStream, got {func} with a generator "
                    "of its own"
                )

    def _compare(self, func: Any, numbers: list[Any], places: list[Any]) -> None:
        index = len(self._calls)
        self._calls.append((func, numbers, places))
        if self._like is None:
            return
        calls = self._like._calls
        theirs = calls[index] if index < len(calls) else (None, [], [])
        if theirs[0] is not func:
            raise RuntimeError(
                f"{_MUST} make the same calls each time, got {func} where there was {theirs[0] or 'none'}"
            )
        for now, before in zip(numbers, theirs[1], strict=True):
            if now != before and not (now != now and before != before):
                raise RuntimeError(
                    f"{_MUST} not depend on Python numbers that change, because a graph repeats the captured ones, "
                    f"got {func} with {before!r}, then with {now!r}"
                )
        for now, before in zip(places, theirs[2], strict=True):
            if now != before:
                raise RuntimeError(
                    f"{_MUST} keep its tensors and change them in place, got {func} with a new one of shape "
                    f"{tuple(now[0])}"
                )


def storage_of(x: Tensor) -> int:
    return x.untyped_storage()._cdata


def reads(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether this call would synchronize because the host needs a value, or a size that depends on values."""
    packet = func.overloadpacket
    if packet in _INDEXING:
        masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
        # Writing a single number through a mask does not need the number of masked elements.
        return bool(masks) and (packet is _aten.index or args[2].numel() != 1)
    if packet is _aten.repeat_interleave and kwargs.get("output_size") is not None:
        return False
    return packet is _aten._linalg_check_errors or bool(_TAGS.intersection(func.tags))


def _written(func: Any, args: Any, kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that the call writes to, according to its schema."""
    given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
    changed = [
        given.get(a.name)
        for a in func._schema.arguments
        if a.alias_info is not None and a.alias_info.is_write
    ]
    return [x for x in tree_leaves(changed) if isinstance(x, Tensor)]
