"""CudaGraphs: how a function is captured on CUDA."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["CudaGraphs"]


class CudaGraphs:
    """Makes graphs that share their memory: each may be replayed once what is to be kept of the last replay is copied.

    Args:
        device: on which everything happens.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cuda: Any = torch.cuda  # untyped in some versions of torch
        self._pool = self._cuda.graph_pool_handle()
        self._stream = self._cuda.Stream(device)

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        """On another stream, as PyTorch asks for, so that what libraries set up lazily is there before a capture."""
        side, current = self._cuda.Stream(self._device), self._cuda.current_stream(self._device)
        side.wait_stream(current)
        try:
            with self._cuda.stream(side):
                yield
        finally:
            current.wait_stream(side)

    @contextmanager
    def without_sync(self) -> Iterator[None]:
        """Within it, what waits for the device raises RuntimeError, as far as torch notices."""
        before = self._cuda.get_sync_debug_mode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says that it does not notice all of them
            self._cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            self._cuda.set_sync_debug_mode(before)

    def capture(self, function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """What replays function(), and what it returned, which each replay overwrites."""
        graph, current = self._cuda.CUDAGraph(), self._cuda.current_stream(self._device)
        # Only this thread's calls: the thread that pins a DataLoader's batches allocates meanwhile.
        context = self._cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        )
        try:
            with self._cuda.device(self._device), context:
                result = function()
        finally:
            self._cuda.set_stream(current)  # which a capture that fails does not put back
        return graph.replay, result
