"""OpAudit, which checks every op of two steps: refused and accepted ops. The device "meta" represents a GPU, the CPU
represents the host."""

import pytest
import torch

from pygan._capture_op_audit import OpAudit

META = torch.device("meta")
ON = torch.zeros(6, device=META)
HOST = torch.zeros(6)
NUMBER = torch.tensor(2.0)
COUNT = torch.tensor(0.0)
STEP = [0]


def new_each_time():
    return torch.empty(3, device=META) if STEP[0] % 2 else torch.zeros(3, device=META)


OTHER_DEVICE = {
    "copied to it": lambda: HOST.to(META),
    "a number copied to it": lambda: NUMBER.to(META),
    "copied into it": lambda: ON.copy_(HOST),
    "on the host alone": lambda: HOST + 1,
    "a count of the host": lambda: COUNT.add_(1),
    "a number from before": lambda: ON * NUMBER,
    "made on the host": lambda: torch.zeros(3),
}
DIFFERENT = {
    "another op": (lambda: ON + 1 if STEP[0] % 2 else ON * 1, "make the same calls each time"),
    "one more": (lambda: ON + 1 if STEP[0] % 2 else None, "got .* where there was none"),
    "one less": (lambda: None if STEP[0] % 2 else ON + 1, "got none where there was"),
    "another number": (lambda: ON + STEP[0], "with 0, then with 1"),
    "another made of a number": (
        lambda: ON * torch.tensor(float(STEP[0])),
        r"with 0\.0, then with 1",
    ),
    "another shape": (lambda: torch.zeros(3 + STEP[0], device=META), r"with 3, then with 4"),
    "another size": (lambda: ON[STEP[0] :] + 1, "not depend on Python numbers"),
    "NaN, then not": (lambda: ON * float("nan" if STEP[0] else 1), "with 1.0, then with nan"),
    "another tensor": (lambda: FRESH[STEP[0]] + 1, "keep its tensors and change them in place"),
    "another view": (lambda: VIEWS[STEP[0]] + 1, "keep its tensors and change them in place"),
}
FRESH = [torch.zeros(3, device=META), torch.zeros(3, device=META)]
VIEWS = [ON[:3], ON[3:]]
PASSES = {
    "in place": lambda: ON.add_(1),
    "made and used": lambda: torch.zeros(3, device=META).add_(1) * 2,
    "the same number": lambda: ON * 0.5,
    "NaN each time": lambda: ON * float("nan"),
    "a number made of the same": lambda: ON * torch.tensor(2.0),
    "random": lambda: torch.rand(3, device=META),
}


def audited(function):
    first = audit = OpAudit(META)
    for step in range(2):
        STEP[0] = step
        with audit:
            function()
        audit = OpAudit(META, like=first)
    return first


@pytest.mark.parametrize("name", OTHER_DEVICE)
def test_ops_on_other_devices_are_refused(name):
    with pytest.raises(RuntimeError, match=r"a step must run on meta only, got "):
        audited(OTHER_DEVICE[name])


@pytest.mark.parametrize("name", DIFFERENT)
def test_differences_between_steps_are_refused(name):
    function, message = DIFFERENT[name]
    with pytest.raises(RuntimeError, match=r"GANTrainer\.capture: a step must .*" + message):
        audited(function)


@pytest.mark.parametrize("name", PASSES)
def test_valid_steps_pass_the_audit(name):
    audited(PASSES[name])


def test_tensors_made_from_host_numbers():
    """(A mode does not see the copy in torch.tensor(..., device=...); torch.cuda.set_sync_debug_mode does.)"""
    with pytest.raises(RuntimeError, match="a step must run on meta only"):
        audited(lambda: torch.tensor([1.0, 2.0]))


def test_custom_generators_are_refused():
    generator = torch.Generator()
    x = torch.zeros(6)
    with (
        pytest.raises(RuntimeError, match="draw from torch's default generators"),
        OpAudit(torch.device("cpu")),
    ):
        x.uniform_(generator=generator)


def test_reused_memory_counts_as_new():
    """A tensor in the memory of a freed tensor counts as another tensor."""
    kept = [torch.zeros(1000)]

    def step():
        kept[0] = None
        kept[0] = torch.ones(1000)

    first = OpAudit(torch.device("cpu"))
    kept[0] + 1
    with first:
        kept[0] + 1
    step()
    with pytest.raises(RuntimeError, match="keep its tensors"), OpAudit(torch.device("cpu"), first):
        kept[0] + 1


def test_written_storages():
    x, y = torch.zeros(3), torch.zeros(3)
    audit = OpAudit(torch.device("cpu"))
    with audit:
        (x + y).add_(1)
        torch._foreach_add_([y], 1)
    assert audit.written == {y.untyped_storage()._cdata}
