"""Conversion of the user's items and batches: tensors, arrays and PIL images, pairs of them, and dicts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

__all__ = ["Keys", "as_tensor", "collated", "parts", "parts_of_batch"]

Keys = str | Sequence[str] | None
"""Of dicts: the key of the samples, or the keys of samples and labels."""

_MUST = "pygan.fit: data must, if a Dataset, yield"


def parts(item: Any, keys: Keys, *, conditional: bool) -> list[Any]:
    """A sample and, if there is one and it is wanted, its label; or a batch of each.

    Raises:
        TypeError, ValueError: a dict without the keys, or no dict where there are some.
    """
    found: list[Any] = [item]
    if isinstance(item, Mapping):
        there = ", ".join(map(str, item))
        if keys is None:
            raise TypeError(
                "pygan.fit: data_keys must name the key of the samples, or those of samples and labels, where the data "
                f"are dicts, got None for the keys {there}"
            )
        names = [keys] if isinstance(keys, str) else list(keys)
        for name in names:
            if name not in item:
                raise ValueError(
                    f"pygan.fit: data_keys must be among those of the data, {there}, got {name!r}"
                )
        found = [item[name] for name in names]
    elif keys is not None:
        raise TypeError(
            f"pygan.fit: data_keys must be None if the data are not dicts, got {keys!r} for {_kind(item)}"
        )
    elif isinstance(item, (tuple, list)) and item:
        found = list(item)
    return found if conditional else found[:1]


def as_tensor(value: Any) -> Any:
    """An array as a tensor (of float64 in torch's default dtype, as networks have it), a PIL image as one of float32 in
    [-1, 1], (channels, height, width); anything else as it is.

    Raises:
        TypeError: an array of what is no number.
        ValueError: a masked array, or an image of another mode than L or RGB.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(
            "pygan.fit: data must, if arrays, not be masked ones, got numpy.ma.MaskedArray, whose mask would be lost; "
            "array.filled(value) makes plain ones"
        )
    if isinstance(value, np.ndarray):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is read-only: nothing is written to it
            # (ascontiguousarray would give a label of no dimensions one.)
            array = np.asarray(value, value.dtype.newbyteorder("="), order="C")
            tensor = torch.from_numpy(array)
        return tensor.to(torch.get_default_dtype()) if tensor.dtype == torch.float64 else tensor
    if type(value).__module__.startswith("PIL."):
        if value.mode not in ("L", "RGB"):
            raise ValueError(
                f"pygan.fit: data must, if PIL images, be of mode L or RGB, got {value.mode}; image.convert('RGB') "
                "makes them such"
            )
        pixels = np.asarray(value) / np.float32(127.5) - 1
        return torch.from_numpy(np.atleast_3d(pixels)).permute(2, 0, 1)
    return value


def collated(items: list[Any], *, keys: Keys, conditional: bool) -> Sequence[Tensor]:
    """A batch of items: samples and, if there are any and they are wanted, labels.

    Raises:
        TypeError, ValueError: they are not what they may be, or not of one shape.
    """
    each = [parts(item, keys, conditional=conditional) for item in items]
    try:
        batch = default_collate([[as_tensor(x) for x in part] for part in each])
    except TypeError:
        raise TypeError(f"{_MUST} tensors, arrays or PIL images, got {_kinds(each[0])}") from None
    except RuntimeError as error:
        if "equal size" not in str(error):
            raise
        raise ValueError(f"{_MUST} tensors of one shape, got others ({error})") from None
    return _checked(batch, each[0])


def parts_of_batch(batch: Any, keys: Keys, *, conditional: bool) -> Sequence[Tensor]:
    """The same of a batch that somebody else has collated.

    Raises:
        TypeError, ValueError: it is not what it may be, or holds nothing, or fewer labels than samples.
    """
    found = [as_tensor(x) for x in parts(batch, keys, conditional=conditional)]
    tensors = _checked(found, found)
    sizes = [len(x) if x.dim() else 0 for x in tensors]
    if not sizes[0] or len(set(sizes)) > 1:
        shapes = " and ".join(str(tuple(x.shape)) for x in tensors)
        raise ValueError(
            f"pygan.fit: data must yield batches (N, ...) of samples, and of as many labels, got {shapes}"
        )
    return tensors


def _checked(batch: Any, found: list[Any]) -> Sequence[Tensor]:
    if not 1 <= len(batch) <= 2 or not all(isinstance(x, Tensor) for x in batch):
        raise TypeError(f"{_MUST} a tensor or a pair of a tensor and a label, got {_kinds(found)}")
    return list(batch)


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _kinds(values: list[Any]) -> str:
    return ", ".join(map(_kind, values))
