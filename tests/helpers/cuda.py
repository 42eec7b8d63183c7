"""What the tests that need a GPU share: inputs, graphs, and which kernels a call launches."""

import torch


def inputs(shape, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.uint8:
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    return torch.randn(shape, generator=generator).to(dtype)


def at_offset(x, elements):
    """x on the GPU, its first element `elements` past the start of an allocation."""
    flat = torch.empty(x.numel() + elements, dtype=x.dtype, device="cuda")[elements:]
    return flat.view(x.shape).copy_(x)


def captured(function):
    """A graph of function() after a warm-up on a side stream, as torch asks for, and what it returns."""
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
    """Names of the kernels and memsets that function() launches, after a first call."""
    function()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        function()
        torch.cuda.synchronize()
    kinds = torch.autograd.DeviceType.CUDA
    return [e.name for e in profile.events() if e.device_type == kinds and "Memcpy" not in e.name]
