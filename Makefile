# The commands for users and developers, such as `make demo` and `make test`. Each one sets up what it needs; stamp
# files avoid repeating that.
#
#   VENV=.venv        the virtual environment to create and use
#   TORCH=torch       the requirement for torch, e.g. TORCH=torch==2.13.0
#   PYTHON=python3    the interpreter for the environment (>= 3.10)
#   PYGAN_CUDA=auto   1: the CUDA kernels must be built; 0: leave them out
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch
PYTEST_ARGS ?=
DEMO_ARGS ?=

BIN := $(abspath $(VENV))/bin
# Not `python -m pip`, which would mistake the checkout's own egg-info for an installed package.
PIP := $(BIN)/pip --disable-pip-version-check
stamp = $(VENV)/.pygan-$(1)

CPP_FILES = $(shell find csrc tests -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')
# The sources of the extension module. Python files are not included, because the install is editable.
BUILD_FILES := $(shell find csrc cmake tools/setup_helpers -type f -not -name '*.pyc') \
    tools/pygan_build_backend.py setup.py pyproject.toml CMakeLists.txt

# The module is in the checkout, so it must be installed again for another VENV or another choice of CUDA.
CONFIGURATION := $(abspath $(VENV)) cuda=$(or $(PYGAN_CUDA),auto) archs=$(or $(TORCH_CUDA_ARCH_LIST),default)
ifneq ($(CONFIGURATION),$(shell cat build/configuration 2>/dev/null))
REBUILD := always
endif
# Install another torch only on request: plain `make test` keeps the installed one.
ifneq ($(origin TORCH),file)
ifneq ($(TORCH),$(shell cat $(call stamp,torch) 2>/dev/null))
NEW_TORCH := always
endif
endif

.PHONY: help demo test lint format docs gallery gpu-check build clean always

help:
	@echo 'make demo       train a GAN on handwritten digits; pictures and numbers in demo/'
	@echo 'make test       run the tests (PYTEST_ARGS="-m \"not slow\"" for the quick ones)'
	@echo 'make lint       ruff, clang-format and mypy'
	@echo 'make format     let ruff and clang-format change the files'
	@echo 'make docs       the documentation site, in build/site'
	@echo 'make gallery    run the gallery again: numbers, pages and pictures, into docs/gallery (17 minutes)'
	@echo 'make gpu-check  on a machine with a GPU: checks, tests, compute-sanitizer, benchmarks; results in gpu-report/'
	@echo 'make build      only set up and build; make clean removes what was built'

demo: $(call stamp,demo)
	@mkdir -p demo
	$(BIN)/python examples/digits.py --out demo $(DEMO_ARGS)

test: $(call stamp,test)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(call stamp,lint)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CPP_FILES)
	$(BIN)/mypy

format: $(call stamp,lint)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP_FILES)

docs: $(call stamp,docs)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo 'The site is in build/site; index.html opens in a browser.'

gallery: $(call stamp,demo) $(call stamp,test)
	for page in $(filter-out %/page.py %/baselines.py %/index.py,$(wildcard examples/gallery/*.py)); do \
	    $(BIN)/python $$page || exit 1; \
	done
	$(BIN)/python examples/gallery/index.py

gpu-check: $(call stamp,gpu)
	@rm -rf gpu-report
	@LIMIT=none PY=$(BIN)/python OUT=gpu-report bash tools/gpu/check.sh

build: $(call stamp,built)

clean:
	rm -rf build dist demo gpu-report pygan-bench *.egg-info pygan/_C.*.so pygan/_C.json
	rm -f $(call stamp,built)

# --- setup, step by step -------------------------------------------------------------------------------------

$(call stamp,venv):
	@$(PYTHON) tools/check_machine.py
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(call stamp,torch): $(call stamp,venv) $(NEW_TORCH)
	$(PIP) install $(TORCH) numpy
	@echo '$(TORCH)' > $@

# torch from PyPI is a CUDA build, and a compiler for it is on PyPI too, so that no system toolkit is needed.
$(call stamp,compiler): $(call stamp,torch)
	@wheels=$$($(BIN)/python tools/missing_compiler.py); \
	if [ -n "$$wheels" ]; then \
	    echo "No CUDA compiler for this torch was found; fetching $$wheels"; \
	    $(PIP) install --quiet $$wheels || echo 'Could not be installed; see below for what is built.'; \
	fi
	@touch $@

$(call stamp,built): $(call stamp,compiler) $(BUILD_FILES) $(REBUILD)
	$(PIP) install --quiet 'setuptools>=77' 'cmake>=3.24' ninja
	@echo 'Building the kernels; the first time this takes some minutes.'
	@mkdir -p build && rm -f build/configuration
	@$(PIP) install --verbose --no-build-isolation --no-deps --editable . > build/install.log 2>&1 \
	    || { cat build/install.log; echo 'The build failed; its log is above and in build/install.log.'; exit 1; }
	@grep -o 'pygan: .*' build/install.log
	@echo '$(CONFIGURATION)' > build/configuration
	@touch $@

# Only the packages of the extra: installing `.[demo]` would build pygan again.
$(call stamp,demo): $(call stamp,built)
	$(PIP) install --quiet $$($(BIN)/python tools/extra.py demo)
	@touch $@

$(call stamp,test): $(call stamp,built)
	$(PIP) install --quiet $$($(BIN)/python tools/extra.py test train mnist)
	@touch $@

$(call stamp,gpu): $(call stamp,test)
	$(PIP) install --quiet $$($(BIN)/python tools/extra.py gpu)
	@touch $@

# Without torch: the site is built from the sources, without importing them.
$(call stamp,docs): $(call stamp,venv) pyproject.toml
	$(PIP) install --quiet $$($(BIN)/python tools/extra.py docs)
	@touch $@

$(call stamp,lint): $(call stamp,torch) pyproject.toml
	$(PIP) install --quiet $$($(BIN)/python tools/extra.py lint)
	@touch $@
