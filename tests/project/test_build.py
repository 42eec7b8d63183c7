"""The build: its report, its errors, and the ways to install."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest
import torch
from helpers import ROOT

import pygan
from pygan import _C

sys.path.insert(0, str(ROOT / "tools"))

import pygan_build_backend as backend
from setup_helpers import cuda, extension, torch_info

SERIES = ".".join(torch.__version__.split("+")[0].split(".")[:2])


def python(*args, **kwargs):
    """Run this interpreter outside the checkout; returns its output and status."""
    return subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, **{"cwd": "/", **kwargs}
    )


# --- what the build says of itself ---------------------------------------------------------------


def test_build_info():
    info = pygan.build_info()
    assert info["version"] == pygan.__version__
    assert info["torch"].startswith(SERIES + ".")
    assert info["torch_running"] == torch.__version__
    assert info["cpu_capability"] in ("baseline", "avx2", "avx512")
    assert info["threads"] == torch.get_num_threads()
    assert len(info["devices"]) == torch.cuda.device_count()
    assert info["cuda"] is bool(info["cuda_archs"]) is bool(info["cuda_version"])
    assert info["cuda_reason"].startswith(
        "CUDA kernels " + ("built: " if info["cuda"] else "left out: ")
    )
    assert re.fullmatch(r"\w+ \d+\.\d+\.\d+", info["compiler"])


def test_report_names_every_entry():
    report = python("-m", "pygan", cwd=ROOT)
    assert report.returncode == 0, report.stderr
    shown = dict(line.split(maxsplit=1) for line in report.stdout.splitlines())
    assert list(shown) == list(pygan.build_info())
    assert shown["version"] == pygan.__version__
    assert shown["cuda_reason"] == pygan.build_info()["cuda_reason"]


def test_messages_name_an_installable_package():
    """The distribution is not on PyPI, where anybody could register its name."""
    for path in sorted((ROOT / "pygan").rglob("*.py")):
        advice = re.findall(r"pip install ([^`'(\n]*)", path.read_text("utf-8"))
        assert not [words for words in advice if "pygan" in words.split(" in ")[0]], path
    assert not [v for v in pygan.build_info().values() if "pygan-fused" in str(v)]


def test_metadata_pins_the_torch_series():
    # Run outside the checkout, whose egg-info is from the last build of any kind.
    code = "import importlib.metadata as m; print(*m.requires('pygan-fused'), sep='\\n')"
    answer = python("-c", code)
    assert answer.returncode == 0, answer.stderr
    core = sorted(line for line in answer.stdout.splitlines() if "extra ==" not in line)
    assert core == ["numpy", f"torch=={SERIES}.*"]


# --- one OpenMP runtime --------------------------------------------------------------------------


def test_extension_links_no_openmp_runtime():
    if not shutil.which("readelf"):
        pytest.skip("readelf is not installed")
    listing = subprocess.run(
        ["readelf", "-d", _C.__file__], capture_output=True, text=True, check=True
    ).stdout
    needed = re.findall(r"NEEDED.*\[(.+)\]", listing)
    assert any(name.startswith("libtorch") for name in needed)
    assert not [name for name in needed if re.search(r"omp", name)]
    # The wheel must not contain paths of this machine.
    assert re.findall(r"(?:RUNPATH|RPATH).*\[(.+)\]", listing) == ["$ORIGIN/../torch/lib"]


def test_one_thread_pool_in_the_process():
    """The kernels run on PyTorch's threads: no second runtime is loaded and no additional thread is started."""
    code = """
import os, torch, pygan
torch.set_num_threads(2)
x = torch.rand(1 << 22)
(x + 1).exp()
before = len(os.listdir("/proc/self/task"))
pygan.instance_noise(x, 0.1)
pygan.fused_losses.discriminator_loss(x, x)
after = len(os.listdir("/proc/self/task"))
maps = {os.path.realpath(line.split()[-1]) for line in open("/proc/self/maps") if "/" in line}
print(before, after, *(path for path in maps if "omp" in os.path.basename(path)))
"""
    answer = python("-c", code, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr
    before, after, *runtimes = answer.stdout.split()
    assert len(runtimes) == 1, runtimes
    assert before == after


def test_wide_instruction_sets_are_confined_to_their_files():
    """Functions that are also called elsewhere must not contain AVX code, which older CPUs cannot execute.

    If several files emit an inline function (a weak symbol), the linker keeps an arbitrary copy.
    """
    objects = sorted(
        str(path) for path in (ROOT / "build").glob("*/CMakeFiles/pygan_cpu_avx*.dir/csrc/cpu/*.o")
    )
    if not objects:
        pytest.skip(
            "no object files: this is not a checkout that was built, or not an x86-64 machine"
        )
    listing = subprocess.run(["nm", *objects], capture_output=True, text=True, check=True).stdout
    assert re.search(r" T \w", listing)
    assert not re.findall(r" [WVu] (\w+)", listing)


# --- imports that cannot work say so in one line --------------------------------------------------


def import_of_a_copy(tmp_path, built_for, module=b""):
    """The last line of output of `import pygan`, for a copy with a replaced extension."""
    package = tmp_path / "pygan"
    shutil.copytree(ROOT / "pygan", package, ignore=shutil.ignore_patterns("_C.*", "__pycache__"))
    if built_for:
        (package / "_C.json").write_text(json.dumps(built_for))
        (package / Path(_C.__file__).name).write_bytes(module)
    answer = python("-c", "import pygan", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert answer.returncode == 1
    return answer.stderr.strip().splitlines()[-1]


def test_import_with_another_torch(tmp_path):
    line = import_of_a_copy(tmp_path, {"torch": "1.99.0", "cuda": None})
    running = f"torch {torch.__version__} is running: reinstall it with `pip install"
    assert line.startswith("ImportError: pygan was built for torch 1.99.0, but " + running)
    assert "--force-reinstall --no-deps .` in a checkout" in line


def test_import_with_another_cuda(tmp_path):
    line = import_of_a_copy(tmp_path, {"torch": f"{SERIES}.0+cu990", "cuda": "99.0"})
    assert line.startswith(
        f"ImportError: pygan was built for torch {SERIES}.0+cu990, but torch {torch.__version__} is running"
    )


def test_import_of_a_module_that_does_not_load(tmp_path):
    line = import_of_a_copy(tmp_path, {"torch": torch.__version__, "cuda": None}, b"not a library")
    assert line.startswith(
        f"ImportError: pygan was built for torch {torch.__version__} and does not load with torch"
    )


def test_import_of_an_unbuilt_checkout(tmp_path):
    line = import_of_a_copy(tmp_path, None)
    assert line.startswith("ImportError: pygan's kernels are not built in")
    assert "pip install -e . --no-build-isolation" in line


def copy_with_kernels(tmp_path):
    """A working copy of the package: (folder, function that runs code with it)."""
    package = tmp_path / "pygan"
    shutil.copytree(
        ROOT / "pygan", package, ignore=shutil.ignore_patterns("_C.*.so", "__pycache__")
    )
    built = Path(_C.__file__)
    (package / built.name).symlink_to(built)
    shutil.copy2(built.with_name("_C.json"), package)
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    return package, lambda *code: python(*code, env=environ)


def test_another_pygan_installed_before_gives_a_warning(tmp_path):
    """Our __init__.py has replaced its, and would be removed with it."""
    package, run = copy_with_kernels(tmp_path)
    (package / "samplabledata").mkdir()
    answer = run("-c", "import pygan; print(pygan.GANTrainer.__name__)")
    assert answer.stdout == "GANTrainer\n"
    assert f"UserWarning: PyPI's other project `pygan` is installed into {package}" in answer.stderr
    assert "pip uninstall pygan" in answer.stderr
    (package / "samplabledata").rmdir()
    assert run("-c", "import pygan").stderr == ""


@pytest.mark.parametrize(
    ("code", "left"),
    [
        (("-c", "from pygan import fused_losses"), ""),
        (("-c", "import pygan.trainer"), None),
        (("-m", "pygan"), ""),
    ],
)
def test_another_pygan_installed_afterwards_is_an_import_error(tmp_path, code, left):
    """Its empty __init__.py has replaced ours; or there is none, after it has been uninstalled."""
    package, run = copy_with_kernels(tmp_path)
    (package / "__init__.py").unlink()
    if left is not None:
        (package / "__init__.py").write_text(left)
    line = run(*code).stderr.strip().splitlines()[-1]
    assert line.startswith(f"ImportError: {package}/__init__.py is not pygan-fused's: PyPI's other")
    assert "pip uninstall pygan" in line


# --- the backend ------------------------------------------------------------------------------------


def test_torch_is_a_build_requirement_only_if_it_is_missing(monkeypatch):
    assert backend.get_requires_for_build_wheel() == []  # this environment has torch
    assert backend.get_requires_for_build_sdist() == []
    monkeypatch.setattr(backend, "torch_is_installed", lambda: False)
    assert backend.get_requires_for_build_wheel() == [backend.TORCH_REQUIREMENT]


def test_torch_is_found_outside_pips_isolation(tmp_path, monkeypatch):
    """pip hides the environment with a PYTHONPATH whose sitecustomize removes site-packages, as here."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONNOUSERSITE", "1")
    assert python("-c", "import torch").returncode == 1
    assert torch_info.torch_is_installed()
    assert torch_info.find_torch.__wrapped__().version == torch.__version__


def test_a_missing_torch_is_reported_in_one_line(monkeypatch):
    monkeypatch.setattr(torch_info, "_ask", lambda code, env: python("-S", "-c", code))
    with pytest.raises(
        RuntimeError, match=r"No module named 'torch'.*Run `pip install torch` first"
    ):
        torch_info.find_torch.__wrapped__()


def finding(monkeypatch, version):
    """Make torch_info find a torch of this version."""
    query = torch_info._QUERY.replace("torch.__version__", repr(version))
    monkeypatch.setattr(torch_info, "_QUERY", query)
    return torch_info.find_torch.__wrapped__


def test_an_old_torch_is_refused_in_one_line(monkeypatch):
    with pytest.raises(
        torch_info.TorchError,
        match=rf"^pygan needs torch {re.escape(torch_info.OLDEST_TORCH)} or newer, and \S+ has torch 1\.13\.1\+cu117\. "
        "Run `pip install --upgrade torch` first.$",
    ):
        finding(monkeypatch, "1.13.1+cu117")()


@pytest.mark.parametrize("version", [torch_info.OLDEST_TORCH + ".0", "2.99.0a0+git12", "3.0.0"])
def test_an_untested_newer_torch_is_accepted(monkeypatch, version):
    assert finding(monkeypatch, version)().version == version


@pytest.mark.parametrize(
    "build", [["setup.py", "--version"], ["tools/cmake_settings.py", "unused"]]
)
def test_builds_end_with_only_that_line(build, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "version.py").write_text("cuda = None")
    (tmp_path / "torch" / "__init__.py").write_text(
        "from . import version, _C\n__version__ = '1.13.1'\ncompiled_with_cxx11_abi = lambda: False\n"
    )
    (tmp_path / "torch" / "_C.py").touch()
    (tmp_path / "torch" / "utils").mkdir()
    (tmp_path / "torch" / "utils" / "__init__.py").touch()
    (tmp_path / "torch" / "utils" / "cpp_extension.py").write_text(
        "TORCH_LIB_PATH = ''\ninclude_paths = list\n"
    )
    answer = python(*build, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: pygan needs torch ")
    assert answer.stderr.count("\n") == 1


def test_settings_are_passed_to_cmake_unchanged(tmp_path):
    values = {"PYGAN_A": 'semi;colons "quotes" $ORIGIN \\ @x@', "PYGAN_B": ""}
    extension.write_settings(tmp_path / "settings.cmake", values)
    show = 'include(settings.cmake)\nfile(WRITE a "${PYGAN_A}")\n'
    (tmp_path / "show.cmake").write_text(show)
    subprocess.run([extension.find_tool("cmake"), "-P", "show.cmake"], cwd=tmp_path, check=True)
    assert (tmp_path / "a").read_text() == values["PYGAN_A"]


@pytest.mark.parametrize(
    ("archs", "jobs", "told"),
    [(0, 16, "1 minute"), (0, 2, "2 minutes"), (1, 2, "2 minutes"), (8, 2, "5 minutes")],
)
def test_builds_print_the_expected_time(archs, jobs, told):
    assert f"{jobs} files at a time: {told} or so" in extension.estimate(archs, jobs)


def configured(folder):
    """Whether CMake accepts the project in the folder."""
    command = [extension.find_tool("cmake"), "-S", str(folder), "-B", str(folder / "build")]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_a_build_folder_copied_with_its_checkout_is_recreated(tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    (first / "CMakeLists.txt").write_text("cmake_minimum_required(VERSION 3.24)\nproject(x NONE)\n")
    extension.remove_foreign_cache(first, first / "build")  # there is no build folder yet
    assert configured(first)
    shutil.copytree(first, second)
    assert not configured(second)
    extension.remove_foreign_cache(second, second / "build")
    told = f"pygan: starting {second}/build anew: it was made for {first}"
    assert capsys.readouterr().out.startswith(told)
    assert configured(second)
    # The checkout's own folder is kept, also under other paths.
    (tmp_path / "link").symlink_to(second)
    extension.remove_foreign_cache(tmp_path / "link", tmp_path / "link" / "build")
    assert (second / "build" / "CMakeCache.txt").exists()
    assert capsys.readouterr().out == ""


def test_a_build_folder_with_a_missing_compiler_is_recreated(tmp_path, capsys):
    build = tmp_path / "build"
    build.mkdir()
    (build / "CMakeCache.txt").write_text(
        f"CMAKE_HOME_DIRECTORY:INTERNAL={tmp_path}\nCMAKE_CACHEFILE_DIR:INTERNAL={build}\n"
        f"CMAKE_CXX_COMPILER:FILEPATH={tmp_path}/gone/g++\n"
    )
    extension.remove_foreign_cache(tmp_path, build)
    assert f"its compiler, {tmp_path}/gone/g++, is gone" in capsys.readouterr().out
    assert not build.exists()


@pytest.mark.skipif(not shutil.which("clang++"), reason="clang++ is not installed")
def test_clang_is_refused_if_torch_uses_gnu_openmp(tmp_path):
    found = torch_info.find_torch()
    if not list(Path(found.lib_dir).glob("libgomp*")):
        pytest.skip("this torch does not bring GNU's OpenMP")
    values = extension.settings(found, cuda.CudaConfig("CUDA kernels left out: a test"), "0")
    extension.write_settings(tmp_path / "settings.cmake", values)
    cmake = [extension.find_tool("cmake"), "-S", str(ROOT), "-B", str(tmp_path / "build")]
    cmake += ["-C", str(tmp_path / "settings.cmake"), "-DCMAKE_CXX_COMPILER=clang++"]
    answer = subprocess.run(cmake, capture_output=True, text=True)
    assert answer.returncode == 1
    assert "set CXX to g++ 11 or newer" in " ".join(answer.stderr.split())


# --- installing for real ------------------------------------------------------------------------------


def make_sdist(folder):
    code = "import sys, pygan_build_backend; print(pygan_build_backend.build_sdist(sys.argv[1]))"
    path = {**os.environ, "PYTHONPATH": str(ROOT / "tools")}
    answer = python("-c", code, str(folder), cwd=ROOT, env=path)
    assert answer.returncode == 0, answer.stderr
    return folder / answer.stdout.split()[-1]


def test_sdist_contains_all_that_a_build_needs(tmp_path):
    with tarfile.open(make_sdist(tmp_path)) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
        metadata = (
            archive.extractfile(next(n for n in archive.getnames() if n.endswith("/PKG-INFO")))
            .read()
            .decode()
        )
    wanted = {
        "setup.py",
        "pyproject.toml",
        "CMakeLists.txt",
        "LICENSE",
        "README.md",
        "Makefile",
        "pygan/py.typed",
    }
    for folder in ("csrc", "cmake", "tools", "pygan"):
        files = (
            p for p in (ROOT / folder).rglob("*") if p.is_file() and p.suffix not in (".pyc", ".so")
        )
        wanted |= {str(p.relative_to(ROOT)) for p in files if p.name != extension.BUILT_FOR}
    assert wanted <= names, wanted - names
    assert not [n for n in names if n.endswith((".so", extension.BUILT_FOR, ".pyc"))]
    assert f"Requires-Dist: {backend.TORCH_REQUIREMENT}\n" in metadata


@pytest.mark.slow
def test_isolated_install_of_the_sdist(tmp_path):
    """With pip's own isolation, and a torch that only the target environment has."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    site = next((home / "lib").glob("python*/site-packages"))
    # A .pth file instead of another two gigabytes: the environment uses this one's torch.
    (site / "torch.pth").write_text(str(Path(torch.__file__).parents[1]) + "\n")
    interpreter = str(home / "bin" / "python")
    environ = {**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, "PYGAN_CUDA": "0"}
    install = [
        interpreter,
        "-m",
        "pip",
        "install",
        "--verbose",
        "--no-deps",
        str(make_sdist(tmp_path)),
    ]
    answer = subprocess.run(
        install,
        cwd=tmp_path,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert answer.returncode == 0, answer.stdout[-4000:]
    assert f"pygan: building for torch {torch.__version__}" in answer.stdout
    assert "pygan: CUDA kernels left out: PYGAN_CUDA=0" in answer.stdout
    # Progress: the expected time, and a line for each file.
    assert re.search(r"pygan: compiling, \d+ files at a time: \d minutes? or so", answer.stdout)
    lines = re.findall(r"^\s*\[(\d+)/(\d+), [\d.]+ s\] Building CXX", answer.stdout, re.MULTILINE)
    assert [int(number) for number, _ in lines] == list(range(1, int(lines[0][1])))
    code = """
import torch, pygan, importlib.metadata
loss = pygan.fused_losses.generator_loss(torch.zeros(5))
print(pygan.__file__, pygan.build_info()["cuda_reason"], loss.item(), sep="|")
print(*importlib.metadata.requires("pygan-fused"), sep="|")
"""
    answer = subprocess.run(
        [interpreter, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    where, reason, value = answer.stdout.splitlines()[0].split("|")
    assert Path(where).is_relative_to(site)
    assert reason == "CUDA kernels left out: PYGAN_CUDA=0"
    assert float(value) == pytest.approx(0.6931472)
    assert f"torch=={SERIES}.*" in answer.stdout.splitlines()[1].split("|")
