"""Comparison of compiled functions with eager ones."""

import pytest
import torch

from pygan import NoiseStream
from pygan._compile import COMPILED

one_graph = pytest.mark.skipif(
    not COMPILED, reason="before torch 2.8 pygan's operators break the graph"
)
BACKENDS = ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]


def compare(function, backend, *argument_lists, exact=True):
    """Compare function(*arguments), compiled (as one graph if torch can), with eager: results and stream states.

    exact: require equal bits, which holds if all arithmetic is in our ops, so that inductor fuses none."""
    compiled = torch.compile(function, fullgraph=COMPILED, dynamic=True, backend=backend)
    for make in argument_lists:
        pairs = []
        for run in (compiled, function):
            arguments = make()
            results = run(*arguments)
            results = list(results) if isinstance(results, tuple) else [results]
            leaves = [t for t in arguments if isinstance(t, torch.Tensor) and t.requires_grad]
            outputs, grads = [t for t in results if t.requires_grad], ()
            if outputs and leaves:
                total = sum((t * (k + 1)).sum() for k, t in enumerate(outputs))
                grads = torch.autograd.grad(
                    total, leaves, allow_unused=True, materialize_grads=True
                )
            streams = [s.state_dict() for s in arguments if isinstance(s, NoiseStream)]
            pairs.append(([*results, *grads], streams))
        (got, got_streams), (want, want_streams) = pairs
        assert got_streams == want_streams
        assert len(got) == len(want)
        for k, (g, w) in enumerate(zip(got, want, strict=True)):
            assert g.dtype == w.dtype and g.shape == w.shape
            if k < len(results):  # compilation may choose different strides for gradients
                assert g.stride() == w.stride()
            g, w = (t.detach().nan_to_num(7.0) for t in (g, w))
            if exact:
                assert torch.equal(g, w)
            else:
                torch.testing.assert_close(g, w)
