# Every target makes its own virtual environment on first use; the stamp renews it when the pins or the package list change.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO ?= samples/demo
WORKERS ?= --numprocesses auto --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all lint format docs bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,diffusers,eval,report,triton]"
	@touch $@

install: $(STAMP)  ## the virtual environment, with everything that development needs

demo: $(STAMP)  ## draw 64 images with the default model into samples/demo, and score them
	$(BIN)/fewstep generate --out $(DEMO) --seeds 0-63
	$(BIN)/fewstep score $(DEMO) --metrics fd,kid,is
	@echo "how to read these numbers: docs/scoring.md"
	@echo "the picture: $(DEMO)/grid.png"

test: $(STAMP)  ## the tests that take minutes
	$(BIN)/pytest -q -m "not slow" $(WORKERS)

test-all: $(STAMP)  ## every test
	$(BIN)/pytest -q $(WORKERS)

lint: $(STAMP)  ## ruff, its formatter, mypy strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## mend what ruff can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

$(STAMP)-docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	@touch $@

docs: $(STAMP)-docs  ## the documentation site in site/, from a wheel, warnings as errors
	PYTHON=$(BIN)/python .ci/docs

bench: $(STAMP)  ## speed of the import, of making plans, of steps, of diffusers steps, of noise, of Brownian paths and of the Frechet distance
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/plan_build.py
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/diffusers_step.py
	$(BIN)/python benchmarks/noise.py
	$(BIN)/python benchmarks/brownian.py
	$(BIN)/python benchmarks/frechet.py

clean:  ## remove what was made, the virtual environment included
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
