"""CudaGraphs: captures functions on CUDA."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["CudaGraphs"]


class CudaGraphs:
    """Captures graphs that share their memory: copy what you need from a replay before the next one.

    Args:
        device: the device of all tensors.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cuda: Any = torch.cuda  # untyped in some versions of torch
        self._pool = self._cuda.graph_pool_handle()
        self._stream = self._cuda.Stream(device)

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        """Context manager that runs the warm-up on another stream, as PyTorch requires, so that libraries finish their
        lazy initialization before the capture."""
        side, current = self._cuda.Stream(self._device), self._cuda.current_stream(self._device)
        side.wait_stream(current)
        try:
            with self._cuda.stream(side):
                yield
        finally:
            current.wait_stream(side)

    @contextmanager
    def without_sync(self) -> Iterator[None]:
        """Context manager in which synchronizing with the device raises a RuntimeError, as far as torch detects it."""
        before = self._cuda.get_sync_debug_mode()
        with warnings.catch_warnings():
            # Ignore torch's warning that it does not detect all synchronizations.
            warnings.simplefilter("ignore")
            self._cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            self._cuda.set_sync_debug_mode(before)

    def capture(self, function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """Capture `function`; returns a function that replays it, and its result, which each replay overwrites."""
        graph, current = self._cuda.CUDAGraph(), self._cuda.current_stream(self._device)
        # Only calls of this thread are errors: the thread that pins a DataLoader's batches allocates concurrently.
        context = self._cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        )
        try:
            with self._cuda.device(self._device), context:
                result = function()
        finally:
            self._cuda.set_stream(current)  # a failed capture does not restore it
        return graph.replay, result
