"""Checks the CUDA kernels on this machine's GPU and writes a report: tests, compute-sanitizer, benchmarks.

    python tools/gpu_check.py --report gpu-report.md

The status is that of the checks. Without a GPU nothing is checked, which is said and is not a failure.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

import pygan

ROOT = Path(__file__).resolve().parents[1]
PYTEST = [sys.executable, "-m", "pytest", "-q", "tests"]
SANITIZERS = ("memcheck", "racecheck", "synccheck", "initcheck")


def find_sanitizer() -> str | None:
    """compute-sanitizer of the toolkit, or of the wheel nvidia-cuda-sanitizer-api."""
    found = shutil.which("compute-sanitizer") or shutil.which(
        "/usr/local/cuda/bin/compute-sanitizer"
    )
    site = Path(torch.__file__).parents[1]
    wheels = sorted(site.glob("nvidia/cu*/**/compute-sanitizer"))
    return found or next((str(path) for path in wheels if path.is_file()), None)


def stages() -> list[tuple[str, list[str] | None]]:
    """(title, command), with None for a command that cannot be run here."""
    plan = [("Tests on the GPU", [*PYTEST, "-m", "cuda"])]
    sanitizer = find_sanitizer()
    for tool in SANITIZERS:
        options = ["--tool", tool, "--error-exitcode", "9", "--kernel-name", "kns=pygan"]
        # Graph capture needs the caching allocator, which is off under the sanitizer (see main).
        command = [*PYTEST, "-m", "cuda and not slow", "-k", "not graph"]
        plan.append((f"compute-sanitizer {tool}", sanitizer and [sanitizer, *options, *command]))
    command = [sys.executable, "-m", "pygan", "bench", "--device", "cuda", "--out", "gpu-bench"]
    plan.append(("Benchmark", command))
    return plan


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", type=Path, default=Path("gpu-report.md"))
    report_path = parser.parse_args().report
    info = pygan.build_info()
    lines = [
        "# GPU report",
        "",
        "```",
        *(f"{key}: {value}" for key, value in info.items()),
        "```",
        "",
    ]
    failed = []
    if not torch.cuda.is_available() or not info["cuda"]:
        why = info["cuda_reason"] if torch.cuda.is_available() else "torch sees no CUDA device"
        lines += [f"Nothing was checked: {why}."]
        print(f"gpu-check: nothing was checked: {why}")
    else:
        for title, command in stages():
            print(f"gpu-check: {title}", flush=True)
            lines += [f"## {title}", ""]
            if command is None:
                lines += [
                    "Not run: compute-sanitizer was not found (`pip install nvidia-cuda-sanitizer-api`).",
                    "",
                ]
                continue
            env = dict(os.environ)
            if title.startswith("compute-sanitizer"):
                # One allocation a tensor: an overrun into a neighbour in the same cached block would pass.
                env["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"
            done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
            tail = (done.stdout + done.stderr).strip().splitlines()[-400:]
            lines += [
                f"`{' '.join(command)}`: status {done.returncode}",
                "",
                "```",
                *tail,
                "```",
                "",
            ]
            print("\n".join(tail[-3:]), flush=True)
            if done.returncode != 0:
                failed.append(title)
        lines += ["Failed: " + ", ".join(failed) if failed else "Everything passed."]
    report_path.write_text("\n".join(lines) + "\n")
    print(f"gpu-check: report in {report_path}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
