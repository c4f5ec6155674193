# `make help` lists the targets. Every one that runs code makes .venv first; that takes no time when the locks have not changed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export PYTHON ?= python3
# Some machines forbid bytecode files; each of the demo's processes would then compile torch and mlflow anew, seconds every time.
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin

.PHONY: setup demo test test-slow test-nightly check bench bench-families bench-toys bench-training bench-gates bench-gamed clean lock help

setup: ## make .venv from the locks (PYTHON=python3.12 to name another Python)
	@infra/setup.sh

demo: setup ## a brief to a served champion: trains on handwritten digits and writes out/digits.png
	@infra/demo.sh

test: setup ## the tests, in minutes
	@$(BIN)/pytest -n auto

test-slow: setup ## real training and whole roads, in a quarter of an hour
	@$(BIN)/pytest -m "slow and not nightly" -n auto

test-nightly: setup ## one more of each kind: the whole road of every variant and the like (not run by CI)
	@$(BIN)/pytest -m nightly -n auto

check: setup ## format, lint, types, import rules
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@said=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$said"; exit 1; }
	@echo "check: format, lint, types and import rules are clean"

bench: setup ## measure the README's numbers into benchmarks/results (ten minutes)
	@$(BIN)/python benchmarks/digits.py

bench-families: setup ## the missing rows of every variant and its peers on digits and MNIST (ARGS=--again: all, two and a half hours)
	@$(BIN)/python benchmarks/families.py digits --jobs 2 $(ARGS)
	@$(BIN)/python benchmarks/families.py mnist --jobs 2 --seeds 1 $(ARGS)
	@! $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || for data in mnist cifar10; do \
		$(BIN)/python benchmarks/families.py $$data --device cuda --seeds 1 $(ARGS) || exit 1; done

bench-toys: setup ## every variant on 2-D toys of known density: docs/pictures/toys.png (an hour)
	@$(BIN)/python benchmarks/toys.py

bench-training: setup ## what channels-last and torch.compile give in training, and what the loop itself takes (half an hour)
	@$(BIN)/python benchmarks/training.py
	@$(BIN)/python benchmarks/steps.py

bench-gates: setup ## how often the gate on the distance passes equals and refuses what is worse (half an hour)
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/gates.py $(ARGS)

bench-gamed: setup ## whether the gates refuse what was tuned on their own features, and pass what is honest (ten minutes)
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/gamed.py $(ARGS)

lock: setup ## write the locks from pyproject.toml
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python infra/lock.py

clean: ## remove .venv, caches and outputs; .genwright, which holds models and runs, stays
	@rm -rf .venv out dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .genwright-ci
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 16
