#!/usr/bin/env bash
# Builds the files of a release in dist/: the source distribution, and a wheel for each given torch.
#
#   tools/build_wheels.sh PYTHON TORCH [TORCH ...]
#   TORCH_CUDA_ARCH_LIST="8.0;9.0+PTX" tools/build_wheels.sh python3.12 2.11.0 2.14.1
# A wheel works with one series of torch (2.11.*) and its CUDA. Its name does not contain them, so it is in a folder
# that does: dist/torch-2.11-cu130/. Each wheel is installed and imported once outside the checkout.
set -euo pipefail

main() {
  [ $# -ge 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
  python=$1
  shift
  cd "$(dirname "$0")/.."
  [ -z "$(git status --porcelain)" ] || { echo 'build_wheels: commit your changes first' >&2; exit 1; }
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  git archive --prefix=pygan/ HEAD | tar -xf - -C "$work"
  dist=$PWD/dist
  for torch in "$@"; do
    "$python" -m venv --clear "$work/venv"
    pip=("$work/venv/bin/pip" --disable-pip-version-check --quiet)
    "${pip[@]}" install "torch==$torch" numpy build
    wheels=$("$work/venv/bin/python" tools/missing_compiler.py)
    [ -z "$wheels" ] || "${pip[@]}" install $wheels
    [ -n "$(ls "$dist"/*.tar.gz 2> /dev/null)" ] || "$work/venv/bin/python" -m build --sdist --outdir "$dist" "$work/pygan" > /dev/null
    "${pip[@]}" wheel --no-deps --wheel-dir "$work/wheel" "$work/pygan"
    "${pip[@]}" install --no-deps "$work"/wheel/*.whl
    folder=$dist/$(cd "$work" && "$work/venv/bin/python" -I -c 'import pygan, torch
series = ".".join(torch.__version__.split(".")[:2])
cuda = pygan.build_info()["cuda_version"]
print("torch-" + series + ("-cu" + "".join(cuda.split(".")[:2]) if cuda else "-cpu"))')
    mkdir -p "$folder"
    mv "$work"/wheel/*.whl "$folder"
    (cd "$work" && "$work/venv/bin/python" -I -m pygan)
    echo "$folder: $(ls "$folder")"
  done
}

main "$@"; exit
