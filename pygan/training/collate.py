"""Converts the user's items and collates them into batches: tensors, arrays, PIL images, pairs of these, and dicts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from pygan._validation import check_dense, check_values

__all__ = ["Keys", "as_tensor", "collate", "split_batch", "split_item"]

Keys = str | Sequence[str] | None
"""The key of the samples in dicts, or the keys of samples and labels."""

_MUST = "pygan.fit: data must yield"


def split_item(item: Any, keys: Keys, *, conditional: bool) -> list[Any]:
    """Split an item into a sample and, if it has one and `conditional` is set, its label; or a batch of each.

    Raises:
        TypeError, ValueError: a dict without the keys, or something else than a dict if keys are given.
    """
    found: list[Any] = [item]
    if isinstance(item, Mapping):
        there = ", ".join(map(str, item))
        if keys is None:
            raise TypeError(
                "pygan.fit: data_keys must name the key of the samples, or those of samples and labels, if the data "
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
    """Convert an array to a tensor (float64 becomes torch's default dtype, which networks have) and a PIL image to
    float32 in [-1, 1], (channels, height, width); return anything else unchanged.

    Raises:
        TypeError: an array of something other than numbers.
        ValueError: a masked array, or an image whose mode is not L or RGB.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(
            "pygan.fit: data must not be masked arrays, got numpy.ma.MaskedArray, whose mask would be lost; use "
            "array.filled(value)"
        )
    if isinstance(value, np.ndarray):
        with warnings.catch_warnings():
            # That the array is read-only: nothing is written to it.
            warnings.simplefilter("ignore")
            # (ascontiguousarray would add a dimension to a 0-d label.)
            array = np.asarray(value, value.dtype.newbyteorder("="), order="C")
            try:
                tensor = torch.from_numpy(array)
            except TypeError:
                raise TypeError(
                    "pygan.fit: data must, if arrays, have a dtype that torch has too, such as float32 or int64, got "
                    f"{value.dtype}"
                ) from None
        return tensor.to(torch.get_default_dtype()) if tensor.dtype == torch.float64 else tensor
    if type(value).__module__.startswith("PIL."):
        if value.mode not in ("L", "RGB"):
            raise ValueError(
                f"pygan.fit: PIL images in data must have mode L or RGB, got {value.mode}; use image.convert('RGB')"
            )
        pixels = np.asarray(value) / np.float32(127.5) - 1
        return torch.from_numpy(np.atleast_3d(pixels)).permute(2, 0, 1)
    return value


def collate(items: list[Any], *, keys: Keys, conditional: bool) -> Sequence[Tensor]:
    """Collate items into a batch: samples and, if they have any and `conditional` is set, labels.

    Raises:
        TypeError, ValueError: items of an unsupported type, or of different shapes.
    """
    each = [split_item(item, keys, conditional=conditional) for item in items]
    try:
        batch = default_collate([[as_tensor(x) for x in part] for part in each])
    except TypeError:
        raise TypeError(f"{_MUST} tensors, arrays or PIL images, got {_kinds(each[0])}") from None
    except RuntimeError as error:
        check_dense(
            "pygan.fit", "data", *(x for part in each for x in part if isinstance(x, Tensor))
        )
        if "equal size" not in str(error):
            raise
        raise ValueError(
            f"{_MUST} tensors of the same shape, got different ones ({error})"
        ) from None
    return _checked(batch, each[0])


def split_batch(batch: Any, keys: Keys, *, conditional: bool) -> Sequence[Tensor]:
    """Split a batch that was collated elsewhere, like `split_item`.

    Raises:
        TypeError, ValueError: an unsupported type, an empty batch, or a different number of labels than samples.
    """
    found = [as_tensor(x) for x in split_item(batch, keys, conditional=conditional)]
    tensors = _checked(found, found)
    sizes = [len(x) if x.dim() else 0 for x in tensors]
    if not sizes[0] or len(set(sizes)) > 1:
        shapes = " and ".join(str(tuple(x.shape)) for x in tensors)
        raise ValueError(
            f"pygan.fit: data must yield batches (N, ...) of samples and of as many labels, got {shapes}"
        )
    return tensors


def _checked(batch: Any, found: list[Any]) -> Sequence[Tensor]:
    if not 1 <= len(batch) <= 2 or not all(isinstance(x, Tensor) for x in batch):
        raise TypeError(f"{_MUST} a tensor or a pair of a tensor and a label, got {_kinds(found)}")
    for x in batch:
        check_values("pygan.fit", "data", x)
    return list(batch)


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _kinds(values: list[Any]) -> str:
    return ", ".join(map(_kind, values))
