"""Helpers for tests that need a GPU: inputs, graphs, and the kernels that a call launches."""

import torch


def inputs(shape, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.uint8:
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    return torch.randn(shape, generator=generator).to(dtype)


def at_offset(x, elements):
    """Copy x to the GPU, with its first element `elements` past the start of an allocation."""
    flat = torch.empty(x.numel() + elements, dtype=x.dtype, device="cuda")[elements:]
    return flat.view(x.shape).copy_(x)


def captured(function):
    """Capture function() in a graph, after a warm-up on a side stream as torch requires; returns the graph and the
    result."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            function()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function()
    return graph, result


def kernels_of(function):
    """Names of the kernels and memsets that function() launches, after a warm-up call."""
    function()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        function()
        torch.cuda.synchronize()
    kinds = torch.autograd.DeviceType.CUDA
    return [e.name for e in profile.events() if e.device_type == kinds and "Memcpy" not in e.name]
