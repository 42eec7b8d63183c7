"""Helper for the tests of schedules: counts compilations."""

import torch


def count_compilations(module):
    """The module compiled as one graph, and the list of graphs, to which each compilation adds one."""
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    return torch.compile(module, fullgraph=True, backend=backend), compiled
