# Everything happens in .venv, from the pinned requirements.lock. `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
SPEC ?= search_spaces/loss_balance.yaml
WORKERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help setup run ui test test-sweeper test-trainers test-fast coverage test-gpu lint types imports reference check lock audit sbom clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: .venv/.installed  ## make .venv and install the pinned packages

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or later is needed; name one with: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv==0.13.9
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

run: setup  ## run the default sweep (SPEC=... for another) and show its table
	$(BIN)/sweeper run $(SPEC)

ui: setup  ## open the MLflow UI on the studies here
	$(BIN)/sweeper ui

# Tests start hundreds of processes, and where PYTHONDONTWRITEBYTECODE is set each would compile all of it again.
PYTEST := $(BIN)/python -m compileall -q sweeper trainers && $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

test: setup  ## all tests, in WORKERS=3 processes: most tests of sweeper wait
	$(PYTEST) tests

test-sweeper: setup  ## all tests but the trainer's
	$(PYTEST) tests --ignore=tests/trainers_tests

test-trainers: setup  ## the trainer's tests
	$(PYTEST) tests/trainers_tests

test-fast: setup  ## the tests that take under 5 s each
	$(PYTEST) tests -m "not slow and not machines"

coverage: setup  ## branches that the tests of test-fast reach, in processes they start too: 87 %, and never less than 86
	$(PYTEST) tests -m "not slow and not machines" --cov --cov-report=term --cov-fail-under=86

test-gpu: setup  ## does a GPU compute what a CPU does? Skipped, with the reason, where there is none
	$(BIN)/python -m pytest -c tests/gpu.ini --rootdir . -m gpu tests/trainers_tests/test_gpu.py tests/test_gpu_sweeps.py

lint: setup  ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## mypy --strict
	$(BIN)/mypy

imports: setup  ## imports point one way
	$(BIN)/lint-imports

reference: setup  ## write docs/cli.md, docs/spec.md and schema.json from the code
	$(BIN)/python -m tools.reference cli > docs/cli.md
	$(BIN)/python -m tools.reference spec > docs/spec.md
	$(BIN)/python -m sweeper.spec.schema > search_spaces/schema.json

check: lint imports types  ## all that needs no test run

lock: setup  ## resolve requirements.lock anew
	echo 'torch==2.14.1' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev \
		--generate-hashes --no-emit-index-url --no-header --constraint - -o requirements.lock pyproject.toml

audit: setup  ## known vulnerabilities of what is locked; fails where that cannot be told
	$(BIN)/python -m tools.audit

sbom: setup  ## write sbom.cdx.json: all that is locked, as CycloneDX
	$(BIN)/python -m tools.sbom > sbom.cdx.json

clean:  ## remove .venv and caches; studies in .sweeper stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
