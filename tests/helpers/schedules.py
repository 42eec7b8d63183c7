"""What the tests of the schedules share: that nothing is compiled twice."""

import torch


def count_compilations(module):
    """The module compiled as one graph, and the list of graphs that grows with each compilation."""
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    return torch.compile(module, fullgraph=True, backend=backend), compiled
