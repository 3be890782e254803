# Everything runs in a .venv made here; `make demo` and `make test` need only Python 3.10+, make and git.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test slow lint docs clean

help:
	@echo "make demo   search a 1M-parameter CIFAR network for a minute and export the best"
	@echo "make test   run the default test suite"
	@echo "make slow   run the slow checks as well"
	@echo "make lint   ruff, mypy, and that imports go down only"
	@echo "make docs   the documentation site, in site/"

setup: $(STAMP)

# torch and torchvision are asked for together, so that the resolver takes a pair that fits.
$(STAMP): setup.cfg setup.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch torchvision
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/zenopt optimize --study demo
	$(BIN)/zenopt export-best --study demo --output demo-bundle --force

test: $(STAMP)
	$(BIN)/python -m pytest

slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(STAMP)
	$(BIN)/python docs/generate.py
	$(BIN)/python -m sphinx -W --keep-going docs site

clean:
	rm -rf site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
