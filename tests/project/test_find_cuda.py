"""The choice of CUDA compiler, runtime and architectures by the build, on simulated machines."""

import re
import sys

import pytest
import torch
from helpers import ROOT
from torch.utils import cpp_extension

sys.path.insert(0, str(ROOT / "tools"))

from setup_helpers import cuda, torch_info


def make_nvcc(root, version):
    """A toolkit folder whose nvcc has the output of the real one."""
    nvcc = root / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    (root / "include").mkdir()
    nvcc.write_text(
        f"""#!/bin/sh
case "$1" in
--version) echo "Cuda compilation tools, release {version}, V{version}.88" ;;
--dryrun) echo "#$ TOP={root}/bin/.." >&2 ;;
--list-gpu-code) printf 'sm_75\\nsm_80\\nsm_90\\n' ;;
esac
"""
    )
    nvcc.chmod(0o755)
    return nvcc


def make_torch(version="2.14.1+cu130", toolkit="13.0", site_dirs=(), gpus=()):
    return torch_info.TorchInfo(version, toolkit, (), "/lib", (), tuple(map(str, site_dirs)), gpus)


@pytest.fixture
def no_system_toolkit(monkeypatch):
    """Hide a system toolkit in the usual place."""
    probe = cuda._probe
    monkeypatch.setattr(
        cuda, "_probe", lambda nvcc, by: None if by == "/usr/local/cuda" else probe(nvcc, by)
    )


def test_a_cpu_torch_disables_cuda(tmp_path):
    nvcc = make_nvcc(tmp_path / "cuda", "13.0")
    environ = {"CUDA_HOME": str(nvcc.parents[1])}
    config = cuda.configure(make_torch("2.13.0+cpu", None), environ)
    assert not config.enabled
    assert config.reason == "CUDA kernels left out: torch 2.13.0+cpu is a build without CUDA"
    with pytest.raises(
        cuda.CudaError, match=r"PYGAN_CUDA=1, but .* is a build without CUDA. Install a CUDA build"
    ):
        cuda.configure(make_torch("2.13.0+cpu", None), {**environ, "PYGAN_CUDA": "1"})


@pytest.mark.usefixtures("no_system_toolkit")
def test_a_missing_compiler_names_the_searched_places():
    environ = {"PATH": ""}
    config = cuda.configure(make_torch(), environ)
    assert not config.enabled
    assert "needs an nvcc of CUDA 13, and CUDA_HOME, PATH, /usr/local/cuda" in config.reason
    with pytest.raises(
        cuda.CudaError, match=r"gave no nvcc at all. Install `pip install nvidia-cuda-nvcc==13.0.\*"
    ):
        cuda.configure(make_torch(), {**environ, "PYGAN_CUDA": "1"})
    with pytest.raises(cuda.CudaError, match="Install the CUDA 12 toolkit in"):
        cuda.configure(make_torch("2.9.0+cu128", "12.8"), {**environ, "PYGAN_CUDA": "1"})


@pytest.mark.usefixtures("no_system_toolkit")
def test_compilers_of_another_major_version_are_skipped(tmp_path):
    old = make_nvcc(tmp_path / "cuda-12", "12.8")
    environ = {"PATH": str(old.parent)}
    assert f"gave {old} is 12.8" in cuda.configure(make_torch(), environ).reason

    site = tmp_path / "site-packages"
    wheel = make_nvcc(site / "nvidia" / "cu13", "13.2")
    (site / "nvidia" / "cu13" / "lib").mkdir()
    cudart = site / "nvidia" / "cu13" / "lib" / "libcudart.so.13"
    cudart.touch()
    config = cuda.configure(make_torch(site_dirs=[site]), environ)
    assert config.compiler.nvcc == wheel
    assert config.compiler.found_by == "PyPI wheels"
    assert config.cudart == cudart
    assert config.include_dirs[0] == site / "nvidia" / "cu13" / "include"
    assert config.reason.startswith(
        "CUDA kernels built: torch 2.14.1+cu130 is a build for CUDA 13.0, and nvcc 13.2"
    )


def test_order_of_compilers_and_runtimes(tmp_path):
    home = make_nvcc(tmp_path / "home", "13.1").parents[1]
    path = make_nvcc(tmp_path / "path", "13.0").parent
    site = tmp_path / "site-packages"
    (site / "nvidia" / "cu13" / "include").mkdir(parents=True)
    (home / "lib64").mkdir()
    static = home / "lib64" / "libcudart_static.a"
    static.touch()
    environ = {"CUDA_HOME": str(home), "PATH": str(path)}
    found = cuda.find_compilers([str(site)], environ)
    assert [c.version for c in found[:2]] == ["13.1", "13.0"]
    assert [c.found_by for c in found[:2]] == ["CUDA_HOME", "PATH"]
    config = cuda.configure(make_torch(site_dirs=[site]), environ)
    assert config.cudart == static  # the best one in this folder
    # The wheels' headers are used although the compiler is a system one, here without headers.
    wheels = site / "nvidia" / "cu13" / "include"
    assert config.include_dirs == (wheels, home / "include")
    assert config.kernel_include_dirs == (wheels,)
    (
        home / "include" / "cuda_runtime.h"
    ).touch()  # with its own headers, which are never mixed with the wheels'
    assert cuda.configure(make_torch(site_dirs=[site]), environ).kernel_include_dirs == ()
    # The defaults that this compiler supports, with PTX for the newest.
    assert config.archs == ("7.5", "8.0", "9.0+PTX")
    assert cuda.configure(
        make_torch(), {**environ, "TORCH_CUDA_ARCH_LIST": "8.6 12.0+PTX"}
    ).archs == ("8.6", "12.0+PTX")


def test_paths_that_are_not_compilers(tmp_path):
    broken = tmp_path / "bin" / "nvcc"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexec /nonexistent/nvcc\n")
    broken.chmod(0o755)
    assert cuda._probe(broken, "PATH") is None
    assert cuda._probe(tmp_path / "nothing", "PATH") is None


def test_options_are_checked():
    assert (
        cuda.configure(make_torch(), {"PYGAN_CUDA": "0"}).reason
        == "CUDA kernels left out: PYGAN_CUDA=0"
    )
    with pytest.raises(cuda.CudaError, match="PYGAN_CUDA must be auto, 1 or 0, got 'yes'"):
        cuda.configure(make_torch(), {"PYGAN_CUDA": "yes"})


# --- architectures ------------------------------------------------------------------------------------


def test_architectures_are_parsed_as_by_torch():
    assert cuda.parse_archs("8.0;9.0a 12.0+PTX 8.0") == ("8.0", "9.0a", "12.0+PTX")
    assert cuda.parse_archs("Ampere;Hopper, 10.0f") == ("8.0", "8.6+PTX", "9.0+PTX", "10.0f")
    for wrong in ("Amper", "90", "9.0+ptx", "native", "Hopper+PTX"):
        with pytest.raises(
            cuda.CudaError,
            match=rf"like 8\.0, 9\.0a or 12\.0\+PTX, or be one of .*Hopper.*, got '{re.escape(wrong)}'",
        ):
            cuda.parse_archs(f"8.0;{wrong}")


@pytest.mark.parametrize(
    ("gpus", "listed", "archs"),
    [
        (("9.0",), "", ("9.0+PTX",)),
        (("9.0", "8.0"), "", ("8.0", "9.0+PTX")),
        (("9.0",), "7.5", ("7.5",)),
        (("12.1",), "", ("7.5", "8.0", "9.0+PTX")),  # not supported by this nvcc; PTX may work
        (("9.0", "12.1"), "", ("7.5", "8.0", "9.0+PTX")),
        ((), "", ("7.5", "8.0", "9.0+PTX")),
    ],
)
def test_architectures_default_to_the_gpus_of_the_machine(tmp_path, gpus, listed, archs):
    root = make_nvcc(tmp_path / "cuda", "13.0").parents[1]
    (root / "lib64").mkdir()
    (root / "lib64" / "libcudart_static.a").touch()
    environ = {"CUDA_HOME": str(root), "TORCH_CUDA_ARCH_LIST": listed}
    assert cuda.configure(make_torch(gpus=gpus), environ).archs == archs


def test_gpus_are_queried_from_torch():
    found = {torch.cuda.get_device_capability(gpu) for gpu in range(torch.cuda.device_count())}
    assert set(torch_info.find_torch().gpus) == {f"{major}.{minor}" for major, minor in found}


def test_flags_of_nvcc():
    assert cuda.gencode_flags(["9.0a", "10.0f", "12.0+PTX"]) == [
        "-gencode=arch=compute_90a,code=sm_90a",
        "-gencode=arch=compute_100f,code=sm_100f",
        "-gencode=arch=compute_120,code=[compute_120,sm_120]",
    ]


def spread(flags):
    """The flags, split into one code each."""
    parts = [re.fullmatch(r"(-gencode=arch=\w+,code=)\[?([\w,]+)\]?", flag) for flag in flags]
    return {part[1] + code for part in parts for code in part[2].split(",")}


# The names of Blackwell mean different numbers in each CUDA version, and thus in older torch versions.
@pytest.mark.parametrize(
    "listed",
    ["8.0 8.6+PTX", "9.0a", "9.0a+PTX;7.5", "10.0"]
    + [name for name in cuda.NAMED_ARCHS if not name.startswith("Blackwell")],
)
def test_flags_equal_torchs(listed, monkeypatch):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", listed)
    wanted = cpp_extension._get_cuda_arch_flags()
    assert spread(cuda.gencode_flags(cuda.parse_archs(listed))) == spread(wanted)
