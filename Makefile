# Everything a developer types. `make demo` and `make test` need only Python >= 3.11 and make: they prepare .venv first.
#   make PYTHON=/path/to/python3.12 test      choose the interpreter of a new .venv
#   make demo DEMO=setup                      prepare .venv only
#   make test-cluster CLUSTER="cluster and not slow"   what .ci/run takes of them
#   make test-frameworks FRAMEWORKS=pytorch            one of them: keras, onnx, pyspark, pytorch, sklearn, tensorflow, xgboost
#   make test PYTEST="-k batching"            hand arguments to pytest, in place of the four processes at once

PYTHON ?=
PYTEST ?= --numprocesses 4
FRAMEWORKS ?= *
BENCH ?=
CLUSTER ?= cluster
DEMO ?= run

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
READY := $(VENV)/.ready
READY_LINT := $(VENV)/.ready-lint
READY_BENCH := $(VENV)/.ready-bench
VENV_FRAMEWORKS ?= .venv-frameworks
READY_FRAMEWORKS := $(VENV_FRAMEWORKS)/.ready

# Without PYTHON=: the newest that has venv and pip. Each candidate is run, because a name on PATH may be an empty shim.
CANDIDATES := $(or $(PYTHON),python3.14 python3.13 python3.12 python3.11 python3 python)

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-cluster test-frameworks check lint format coverage bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## train a model, deploy it on this machine, predict over HTTP
ifeq ($(DEMO),setup)
	@echo "$(VENV) is ready: make demo"
else
	@$(BIN)/clipper-nomad demo
endif

test: $(READY) ## run the tests: unit, and process (real processes and sockets)
	@$(BIN)/python -m pytest -m "not cluster and not slow and not frameworks" $(PYTEST)

test-slow: $(READY) ## run the tests that take long or need the package index
	@$(BIN)/python -m pytest -m "slow and not cluster" $(PYTEST)

test-cluster: $(READY) ## run the tests on a real Nomad, Consul and Fabio, which must be on PATH
	@$(BIN)/python -m pytest -m "$(CLUSTER)" -rs

test-frameworks: $(READY_FRAMEWORKS) ## run the tests of the deployers with torch, tensorflow, Spark, … (gigabytes; Java)
	@failed=; for file in tests/frameworks/test_$(FRAMEWORKS)_models.py; do \
	    $(VENV_FRAMEWORKS)/bin/python -m pytest -m frameworks -rs $$file || failed="$$failed $$file"; \
	done; [ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

check: lint test ## what a change must pass: lint and test

lint: $(READY_LINT) ## ruff, formatting, mypy, spelling
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/codespell

format: $(READY_LINT) ## let ruff write the format and the simple fixes
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

coverage: PYTEST =
coverage: $(READY) ## run the tests and print the branches that no test takes
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -m "not cluster and not slow and not frameworks" $(PYTEST)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

bench: $(READY_BENCH) ## measure throughput and latency on this machine
	@$(BIN)/python -m benchmarks.figures $(BENCH)

clean: ## remove .venv, caches and built packages
	rm -rf $(VENV) $(VENV_FRAMEWORKS) build dist .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than pyproject.toml when .venv has what it asks for.
$(READY): pyproject.toml | $(BIN)/python
	@echo "Installing clipper-nomad with what the demo and the tests need into $(VENV) (once; a minute or two) ..."
	@$(PIP) install --editable '.[demo,test]'
	@touch $@

$(READY_LINT): $(READY)
	@echo "Installing the checking tools into $(VENV) ..."
	@$(PIP) install --editable '.[lint]'
	@touch $@

$(READY_BENCH): $(READY)
	@echo "Installing what the comparison needs into $(VENV) ..."
	@$(PIP) install --editable '.[bench]'
	@touch $@

# Each file of tests is a run of its own: PyTorch and TensorFlow do not always get on in one process.
# An environment of their own: what they pin is nobody else's. PyTorch on Linux brings CUDA, unless pip's index has another.
$(READY_FRAMEWORKS): pyproject.toml | $(BIN)/python
	@echo "Installing the frameworks into $(VENV_FRAMEWORKS) (once; gigabytes, minutes) ..."
	@$(BIN)/python -m venv $(VENV_FRAMEWORKS)
	@$(VENV_FRAMEWORKS)/bin/python -m pip --disable-pip-version-check --quiet install --editable '.[demo,test,frameworks]'
	@touch $@

$(BIN)/python:
	@for python in $(CANDIDATES); do \
	    version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { old="$$old $$python=$$version"; continue; }; \
	    $$python -c 'import venv, ensurepip' 2>/dev/null || { bare="$$bare $$python=$$version"; continue; }; \
	    echo "Creating $(VENV) with $$python ($$version)"; \
	    rm -rf $(VENV); $$python -m venv $(VENV) && exit 0; \
	    rm -rf $(VENV); exit 1; \
	done; \
	echo "make: clipper-nomad needs Python 3.11 or newer; looked for: $(CANDIDATES)" >&2; \
	[ -z "$$old" ] || echo "make: too old:$$old" >&2; \
	[ -z "$$bare" ] || echo "make: without the venv module:$$bare. On Debian and Ubuntu: apt install python3-venv" >&2; \
	echo "make: to name one yourself: make PYTHON=/path/to/python3 ..." >&2; \
	exit 1
