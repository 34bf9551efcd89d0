# Every target sets itself up in .venv; nothing but Python >= 3.11 and make is needed.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= runs/demo
SEED ?= 0
# For example PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"
# fetches a PyTorch without CUDA libraries.
PIP_FLAGS ?=
# Tests of one file share their set-up, so they stay in one process.
PYTEST_FLAGS ?= -n 2 --dist loadfile
# One thread per process: the tests and benchmarks run several processes instead.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1

.PHONY: help demo test test-adapters lint format bench bench-adapters bench-full venv clean

help: ## Show this list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: $(VENV)/.installed ## Make an unstable force field stable; OUT=runs/demo SEED=0.
	$(BIN)/stablemd demo --out "$(OUT)" --seed "$(SEED)"

test: $(VENV)/.installed-dev ## Run the tests; -n 2 by default, see PYTEST_FLAGS.
	$(ONE_THREAD) $(BIN)/python -m pytest $(PYTEST_FLAGS)

# Packages whose models are loaded have environments of their own: two need e3nn 0.4.4, and
# nequip a newer one.
ADAPTERS := nequip mace graph-pes torch-sim

# What else is tested in an environment: lists of pairs by Warp, which runs on a CPU as well.
BESIDE_torch-sim := ,alchemi

# What holds without the packages is tested by `make test`.
test-adapters: $(ADAPTERS:%=$(VENV)-%/.installed) ## Test models of other packages, each in its environment.
	for package in $(ADAPTERS); do \
	  echo "$$package:"; \
	  $(ONE_THREAD) $(VENV)-$$package/bin/python -m pytest $(PYTEST_FLAGS) tests/adapters \
	    --ignore=tests/adapters/test_packages.py; \
	done

lint: $(VENV)/.installed-dev ## Check style, formatting and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## Mend style and formatting.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-bench ## Measure speed beside other packages, some minutes; writes docs/benchmarks.md.
	$(ONE_THREAD) $(BIN)/python -m benchmarks.run

bench-adapters: $(ADAPTERS:%=$(VENV)-%/.installed) $(VENV)/.installed-bench ## Measure models of other packages beside their own calculators.
	for package in nequip mace graph-pes; do \
	  $(ONE_THREAD) $(VENV)-$$package/bin/python -m benchmarks.adapters --package $$package; \
	done
	$(BIN)/python -m benchmarks.run --page-only

bench-full: $(VENV)/.installed-bench ## The same with all contenders from 1 to 1024 replicas.
	$(ONE_THREAD) $(BIN)/python -m benchmarks.run --full

venv: $(VENV)/.installed-dev ## Create .venv with the development tools.

clean: ## Remove .venv, builds and caches (results under runs/ stay).
	rm -rf $(VENV) $(ADAPTERS:%=$(VENV)-%) build dist .pytest_cache .mypy_cache .ruff_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# pip is constrained to the tested versions; the stamps redo an installation
# when the dependencies change.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV); the first time takes some minutes"
	$(BIN)/python -m pip install -q $(PIP_FLAGS) -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV); the first time takes some minutes"
	$(BIN)/python -m pip install -q $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: $(VENV)/.installed-dev
	$(BIN)/python -m pip install -q $(PIP_FLAGS) -c constraints.txt -e '.[bench]'
	touch $@

# PyTorch comes first, so that no package chooses another build of it.
$(VENV)-%/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV)-$*; the first time takes some minutes"
	$(BIN)/python -m venv $(VENV)-$*
	$(VENV)-$*/bin/python -m pip install -q $(PIP_FLAGS) -c constraints.txt torch
	$(VENV)-$*/bin/python -m pip install -q $(PIP_FLAGS) -c constraints.txt -e '.[$*$(BESIDE_$*)]' pytest pytest-xdist
	touch $@

$(VENV)/bin/python:
	@for python in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "Creating $(VENV) with $$("$$python" --version)"; \
	    exec "$$python" -m venv $(VENV); \
	  fi; \
	done; \
	echo "stablemd needs Python 3.11 or newer, and none was found (python3 is:" \
	  "$$(python3 --version 2>&1 || true)). Install it, or name it: make PYTHON=/path/to/python3.11" >&2; \
	exit 1
