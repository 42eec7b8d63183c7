"""NoSync, the mode that detects host synchronization without a GPU: refused and accepted ops."""

import numpy as np
import pytest
import torch
from helpers.sync import NoSync

X, MASK = torch.arange(6.0), torch.arange(6) % 2 == 0
COUNTS = torch.ones(6, dtype=torch.int64)
META = torch.empty(6, device="meta")

READS = {
    "item": lambda: X.sum().item(),
    "bool": lambda: bool(MASK.any()),
    "in": lambda: 1.0 in X,
    "tolist": lambda: X.tolist(),
    "numpy": lambda: X.numpy(),
    "np.asarray": lambda: np.asarray(X),
    "x[mask]": lambda: X[MASK],
    "x[:, mask]": lambda: X[None][:, MASK],
    "x[mask] = tensor": lambda: X.clone().__setitem__(MASK, torch.ones(3)),
    "index_put": lambda: X.index_put((MASK,), torch.ones(3)),
    "masked_select": lambda: X.masked_select(MASK),
    "nonzero": lambda: X.nonzero(),
    "where": lambda: torch.where(MASK),
    "unique": lambda: X.unique(),
    "unique of rows": lambda: X[None].unique(dim=0),
    "unique_consecutive": lambda: X.unique_consecutive(),
    "repeat_interleave": lambda: X.repeat_interleave(COUNTS),
    "bincount": lambda: COUNTS.bincount(),
    "equal": lambda: torch.equal(X, X),
    "allclose": lambda: torch.allclose(X, X),
    "one_hot": lambda: torch.nn.functional.one_hot(COUNTS),
    "inverse": lambda: torch.linalg.inv(torch.eye(2)),
}
COPIES = {
    "to": lambda: X.to("meta"),
    "copy_": lambda: META.clone().copy_(X),
    "tensor": lambda: torch.tensor(1.0, device="meta"),
    "tensor of a list": lambda: torch.tensor([1.0], device="meta"),
    "as_tensor": lambda: torch.as_tensor(1.0, device="meta"),
    "new_tensor": lambda: META.new_tensor([1.0]),
    "from_numpy": lambda: torch.from_numpy(np.ones(2)).to("meta"),
}
ALLOWED = {
    "masked fill": lambda: X.clone().__setitem__(MASK, 1.0),
    "integer indices": lambda: X[COUNTS],
    "integer indices, assigned": lambda: X.clone().__setitem__(COUNTS, X),
    "slices": lambda: X[1:3],
    "where of three": lambda: torch.where(MASK, X, 0.0),
    "repeat_interleave, of a size": lambda: X.repeat_interleave(COUNTS, output_size=6),
    "repeat_interleave, of a number": lambda: X.repeat_interleave(2),
    "nonzero_static": lambda: torch.nonzero_static(X, size=2),
    "inv_ex": lambda: torch.linalg.inv_ex(torch.eye(2)),
    "a number of the host": lambda: META * torch.tensor(2.0),
    "filled": lambda: torch.full((), 1.0, device="meta"),
    "as_tensor of its own": lambda: torch.as_tensor(META, device="meta"),
    "tensor of the CPU": lambda: torch.tensor([1.0]),
}


@pytest.mark.parametrize("name", READS)
def test_reads_are_refused(name):
    with NoSync(), pytest.raises(AssertionError, match="a value was read back"):
        READS[name]()


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_refused(name):
    with NoSync(), pytest.raises(AssertionError, match="from one device to another"):
        COPIES[name]()


@pytest.mark.parametrize("name", ALLOWED)
def test_other_ops_are_allowed(name):
    with NoSync():
        ALLOWED[name]()


def test_everything_is_allowed_outside_the_mode():
    with pytest.raises(ZeroDivisionError), NoSync():
        raise ZeroDivisionError
    assert X.tolist() == X.numpy().tolist()
    assert torch.tensor(1.0, device="meta").device.type == "meta"
