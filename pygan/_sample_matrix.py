"""The check of samples and features given as a matrix, (n, d)."""

from __future__ import annotations

from torch import Tensor

from pygan._validation import check_values

__all__ = ["matrix"]


def matrix(
    name: str,
    argument: str,
    value: Tensor,
    *,
    rows: int,
    columns: int | None = None,
    finite: bool = False,
) -> Tensor:
    """Check the argument and convert it to a float64 tensor."""
    shape = f"(n, {'d' if columns is None else columns})"
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: {argument} must be a tensor {shape}, got {type(value).__name__}")
    check_values(name, argument, value)
    if (
        value.dim() != 2
        or (columns is not None and value.shape[1] != columns)
        or value.is_complex()
    ):
        raise ValueError(
            f"{name}: {argument} must be a real tensor {shape}, got {tuple(value.shape)}, {value.dtype}"
        )
    if len(value) < rows:
        raise ValueError(
            f"{name}: {argument} must hold at least {rows} sample(s), got {len(value)}"
        )
    matrix = value.detach().double()
    if finite and not bool(matrix.isfinite().all()):
        raise ValueError(f"{name}: {argument} must be finite, got NaN or infinite values")
    return matrix
