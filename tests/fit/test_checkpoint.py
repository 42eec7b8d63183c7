"""pygan.checkpoint: files are complete or absent, and invalid files are refused with a reason."""

import errno
import os
import pickle
import resource
import signal
from collections import OrderedDict

import numpy as np
import pytest
import torch
from helpers import raises
from helpers.fit import assert_equal, kill_at_write, start
from hypothesis import given, settings
from hypothesis import strategies as st

from pygan import checkpoint
from pygan.checkpoint import CheckpointError

DTYPES = [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.complex64]
tensors = st.builds(
    lambda shape, dtype, seed: torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(
        dtype
    ),
    st.lists(st.integers(0, 4), max_size=3),
    st.sampled_from(DTYPES),
    st.integers(0, 99),
)
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), tensors)
states = st.dictionaries(
    st.one_of(st.text(), st.integers()),
    st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner), st.dictionaries(st.text(), inner), st.lists(inner).map(tuple)
        ),
        max_leaves=10,
    ),
)


@given(state=states)
@settings(max_examples=30, deadline=None)
def test_save_and_load_round_trip(tmp_path_factory, state):
    path = tmp_path_factory.mktemp("checkpoint") / "a.pt"
    checkpoint.save(path, state)
    assert_equal(checkpoint.load(path), state)
    assert_equal(torch.load(path, weights_only=True)["state"], state)  # readable by torch.load
    assert os.listdir(path.parent) == ["a.pt"]


def test_networks_and_optimizers(tmp_path):
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters(), lr=torch.tensor(0.1), foreach=False)
    network(torch.ones(3)).sum().backward()
    optimizer.step()
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
    checkpoint.save(tmp_path / "a.pt", state)
    again = checkpoint.load(tmp_path / "a.pt")
    assert isinstance(again["network"], OrderedDict)
    torch.testing.assert_close(again, state, rtol=0, atol=0)


class Sneaky:
    def __reduce__(self):
        return os.system, ("echo never",)


class Number(int):
    pass


@pytest.mark.parametrize(
    ("value", "where", "kind"),
    [
        ({"a": [1, np.float64(2)]}, "state['a'][1]", "numpy.float64"),
        ({"a": np.zeros(2)}, "state['a']", "numpy.ndarray"),
        ({"config": {"out": Sneaky()}}, "state['config']['out']", "Sneaky"),
        ({"n": Number(3)}, "state['n']", "Number"),
        ({"b": b"x"}, "state['b']", "bytes"),
        ({"f": len}, "state['f']", "builtin_function_or_method"),
        ({(1, 2): 3}, "state must have plain keys, got tuple", ""),
    ],
)
def test_only_plain_data_is_saved(tmp_path, value, where, kind):
    with raises(TypeError, "pygan.checkpoint.save: " + where, kind):
        checkpoint.save(tmp_path / "a.pt", value)
    with raises(TypeError, "pygan.checkpoint.save: state must be a dict, got list"):
        checkpoint.save(tmp_path / "a.pt", [])
    assert not os.listdir(tmp_path)


def two(folder):
    """Write checkpoints of steps 1 and 2; returns their paths, and the bytes of the second."""
    for step in (1, 2):
        checkpoint.save(folder / f"step-{step}.pt", {"x": torch.arange(40.0) * step, "n": step})
    return folder / "step-1.pt", folder / "step-2.pt", (folder / "step-2.pt").read_bytes()


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    assert str(caught.value).startswith(f"pygan.checkpoint.load: {path} {caught.value.reason}")
    return caught.value


def test_a_truncated_file_is_refused(tmp_path):
    first, second, content = two(tmp_path)
    reasons = set()
    for n in {*range(len(content))[:8], *range(len(content))[-40:], *range(8, len(content), 9)}:
        second.write_bytes(content[:n])
        error = refusal(second)
        assert error.previous == first and str(first) in str(error)
        reasons.add(error.reason.split(":")[0].split(",")[0])
    assert reasons == {"is empty", "is truncated", "is not a pygan checkpoint"}


def test_a_flipped_bit_is_refused(tmp_path):
    first, second, content = two(tmp_path)
    first.unlink()  # otherwise it would be read each time, to be suggested
    for n in range(0, len(content), 3):
        wrong = bytearray(content)
        wrong[n] ^= 1 << (n % 8)
        second.write_bytes(wrong)
        refusal(second)


@given(junk=st.binary(max_size=300), zip_start=st.booleans())
@settings(max_examples=30, deadline=None)
def test_foreign_bytes_are_refused(tmp_path_factory, junk, zip_start):
    path = tmp_path_factory.mktemp("junk") / "step-1.pt"
    path.write_bytes(b"PK\x03\x04" * zip_start + junk)
    assert refusal(path).previous is None


def foreign(path, content):
    """Write a file with a correct checksum, and content that `save` would refuse."""
    import zlib

    torch.save(content, path)
    raw = path.read_bytes()
    path.write_bytes(raw[:-2] + checkpoint._trailer(zlib.crc32(raw)))


def test_foreign_files_are_refused_with_a_reason(tmp_path):
    first, second, _ = two(tmp_path)
    torch.save({"x": 1}, second)
    assert "lacks the checksum" in refusal(second).reason
    second.write_bytes(pickle.dumps({"x": 1}))
    assert "not a pygan checkpoint" in refusal(second).reason
    foreign(second, {"x": 1})
    assert refusal(second).reason == "is not a pygan checkpoint: it contains something else"
    foreign(second, {"format": "pygan checkpoint", "version": 2, "state": {}})
    assert refusal(second).reason == "has version 2 of the format, not 1"
    foreign(second, {"format": "pygan checkpoint", "version": 1, "state": Sneaky()})
    assert "posix.system" in refusal(second).reason
    assert refusal(tmp_path / "step-3.pt").reason == "does not exist"
    assert refusal(tmp_path / "step-3.pt").previous == first  # the second one is invalid too
    assert refusal(tmp_path).reason == "cannot be read: it is not a regular file"
    first.write_bytes(b"")
    assert refusal(second).previous is None


@pytest.mark.parametrize("entry", ["format", "version", "state"])
@given(value=st.one_of(leaves, st.lists(leaves, max_size=3), states), absent=st.booleans())
@settings(max_examples=30, deadline=None)
def test_forged_entries_are_refused(tmp_path_factory, entry, value, absent):
    """With a correct checksum: any value in place of an entry, or a missing entry."""
    path = tmp_path_factory.mktemp("forged") / "step-1.pt"
    content = {"format": "pygan checkpoint", "version": 1, "state": {}, entry: value}
    if absent:
        del content[entry]
    foreign(path, content)
    if entry == "state" and isinstance(value, dict) and not absent:
        assert_equal(checkpoint.load(path), value)
    elif entry == "version" and value is True and not absent:
        assert refusal(path).reason.endswith("its version is a bool")
    elif absent or type(value) is not int or value != 1:
        refusal(path)


def test_errors_name_a_tensor_as_version_and_a_missing_state(tmp_path):
    path = tmp_path / "step-1.pt"
    foreign(path, {"format": "pygan checkpoint", "version": torch.ones(2), "state": {}})
    assert refusal(path).reason == "is not a pygan checkpoint: its version is a Tensor"
    foreign(path, {"format": "pygan checkpoint", "version": 1})
    assert refusal(path).reason == "is not a pygan checkpoint: it contains no state"


def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "step-2.pt")
    first = tmp_path / "step-1.pt"
    checkpoint.save(first, {})
    error = refusal(tmp_path / "step-2.pt")
    assert error.reason == "cannot be read: it is not a regular file" and error.previous == first


def save_with_little_space(path, report):
    """Save with a limit of 20,000 bytes per file, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        checkpoint.save(path, {"n": 2, "x": torch.zeros(100_000)})
    except OSError as error:
        report.write_text(f"{error.errno} {error.filename} {error}")


def test_a_full_disk_is_reported_and_keeps_the_old_file(tmp_path):
    path, report = tmp_path / "step-1.pt", tmp_path / "report"
    checkpoint.save(path, {"n": 1})
    start(save_with_little_space, path, report).join()
    assert report.read_text() == f"{errno.EFBIG} {path} [Errno 27] File too large: '{path}'"
    assert checkpoint.load(path) == {"n": 1}
    assert sorted(os.listdir(tmp_path)) == ["report", path.name]


def test_milestones_are_saved(tmp_path):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    state = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 3, 5]).state_dict()
    checkpoint.save(tmp_path / "a.pt", state)
    assert_equal(checkpoint.load(tmp_path / "a.pt"), state)


def test_latest_is_the_checkpoint_with_the_highest_number(tmp_path):
    assert checkpoint.latest(tmp_path / "absent") is None
    assert checkpoint.latest(tmp_path) is None
    for name in ("step-9.pt", "step-00000010.pt", "step-2.pt", ".step-11.pt.tmp", "other-12.pt"):
        (tmp_path / name).touch()
    assert checkpoint.latest(tmp_path) == tmp_path / "step-00000010.pt"


def test_errors_survive_pickling(tmp_path):
    error = CheckpointError(tmp_path, "is empty", tmp_path / "step-1.pt")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.reason == error.reason


def test_a_failed_save_keeps_only_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "step-1.pt"
    checkpoint.save(path, {"n": 1})
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.save(path, {"n": 2})
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]
    (tmp_path / ".step-1.pt.tmp").write_bytes(b"of one who was killed" * 1000)
    checkpoint.save(path, {"n": 2})
    assert checkpoint.load(path) == {"n": 2} and os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(("call", "left"), [(1, 1), (2, 1), (3, 2)])
def test_killed_before_each_critical_call(tmp_path, call, left):
    """Before the file's fsync, before the rename, and before the folder's fsync."""
    path = tmp_path / "step-1.pt"
    checkpoint.save(path, {"n": 1})
    process = start(kill_at_write, call, checkpoint.save, path, {"n": 2, "x": torch.zeros(1000)})
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert checkpoint.load(path)["n"] == left
