#!/usr/bin/env bash
# Builds and tests this checkout with a given Python, torch and compiler, in a temporary folder.
#
#   tools/try_torch.sh PYTHON TORCH [pytest arguments]
#   CXX=g++-11 PYGAN_CUDA=0 tools/try_torch.sh python3.12 2.6.0 -q -m 'not slow'
#
# TORCH is a version, or "newest". Without pytest arguments the quick tests run. CXX, PYGAN_CUDA, TORCH_CUDA_ARCH_LIST
# and MAX_JOBS mean what they mean to any build. The last line is a row for the table in docs/installation.md, if tests
# ran and none failed.
set -euo pipefail

# In a function, which bash reads completely before it runs, so that this file may be edited in the meantime.
main() {
  [ $# -ge 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
  python=$1 torch=torch==$2
  [ "$2" != newest ] || torch=torch
  shift 2
  [ $# -gt 0 ] || set -- -q -m 'not slow'

  cd "$(dirname "$0")/.."
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir "$work/pygan"
  # With uncommitted changes, without build outputs.
  git ls-files --cached --others --exclude-standard -z | tar --null --ignore-failed-read -T - -cf - | tar -xf - -C "$work/pygan"
  cd "$work/pygan"

  "$python" tools/check_machine.py
  "$python" -m venv "$work/venv"
  PATH=$work/venv/bin:$PATH
  pip=(pip --disable-pip-version-check --no-cache-dir)
  "${pip[@]}" install --quiet "$torch" numpy 'setuptools>=77' 'cmake>=3.24' ninja $(python tools/extra.py test train)
  wheels=$(python tools/missing_compiler.py)
  [ -z "$wheels" ] || "${pip[@]}" install --quiet $wheels
  "${pip[@]}" install --verbose --no-build-isolation --no-deps --editable . > "$work/build.log" 2>&1 \
      || { grep -m 5 -A 3 'error:\|Error' "$work/build.log" || tail -40 "$work/build.log"; exit 1; }
  python -m pygan

  status=0
  python -m pytest "$@" | tee "$work/tests.log" || status=$?
  ((status == 0)) || exit $status
  python - "$(tail -1 "$work/tests.log")" <<'END'
import datetime, re, sys
import pygan
tests = re.sub(r" in [\d.]+s.*", "", sys.argv[1].strip(" ="))
info = pygan.build_info()
cuda = f"CUDA {info['cuda_version']}, {' '.join(info['cuda_archs'])}" if info["cuda"] else "CPU"
print("|", " | ".join([info["python"], info["torch"], info["compiler"], cuda, tests,
      str(datetime.date.today())]), "|")
END
}

main "$@"; exit
