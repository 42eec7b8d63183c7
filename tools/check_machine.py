"""Prints what this machine lacks for building pygan. Runs with any Python 3."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig


def problems():
    version = "%d.%d" % sys.version_info[:2]
    if sys.version_info < (3, 10):
        yield "Python >= 3.10 is needed, %s is %s. Name another: make PYTHON=python3.12" % (
            sys.executable,
            version,
        )
        return
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        yield "Python's venv is not complete. On Debian and Ubuntu: apt install python3-venv"
    if not os.path.isfile(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
        yield "Python.h is missing. On Debian and Ubuntu: apt install python3-dev"
    compiler = shutil.which(os.environ.get("CXX", "g++").split()[-1])
    if compiler is None:
        yield "a C++ compiler (g++ >= 11) is needed. On Debian and Ubuntu: apt install g++"
        return
    if os.path.basename(compiler).startswith("clang"):
        return  # cmake/torch.cmake checks its version
    found = subprocess.run(
        [compiler, "-dumpfullversion"], stdout=subprocess.PIPE, universal_newlines=True
    ).stdout
    major = re.match(r"\d+", found)
    if "g++" in os.path.basename(compiler) and major and int(major.group()) < 11:
        yield "g++ >= 11 is needed, %s is %s. Name another: make CXX=g++-12" % (
            compiler,
            found.strip(),
        )


if __name__ == "__main__":
    missing = list(problems())
    for problem in missing:
        sys.stderr.write("pygan: %s\n" % problem)
    sys.exit(bool(missing))
