# Everything runs in a .venv made here; `make demo` and `make test` need only Python 3.10+, make and git.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Where `make gpu` and `make gpu-long` put their numbers, what runs them (an interpreter with zenopt's dependencies, instead of
# the one made here), and the images of `gpu-long`: PATH/train/CLASS/*, PATH/test/CLASS/*.
OUT ?= gpu-results
GPU_PYTHON ?= $(BIN)/python
DATA ?=
MINUTES ?= 8.5

.PHONY: help setup demo test slow lint docs gpu gpu-long clean

help:
	@echo "make demo   search a 1M-parameter CIFAR network for a minute and export the best"
	@echo "make test   run the default test suite"
	@echo "make slow   run the slow checks as well"
	@echo "make lint   ruff, mypy, and that imports go down only"
	@echo "make docs   the documentation site, in site/"
	@echo "make gpu    on a machine with an NVIDIA GPU: its tests, and docs/gpu.md from what is measured, in nine minutes;"
	@echo "            numbers in OUT=gpu-results; GPU_PYTHON=python3 uses an interpreter that is there"
	@echo "make gpu-long DATA=FOLDER   trainings of whole searches on a GPU, MINUTES=8.5 at a time: repeat until it says done"

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

# Two processes, each with one thread, and a file at a time, since tests of one file share what is dear to make.
JOBS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

test: $(STAMP)
	$(PYTEST)

slow: $(STAMP)
	$(PYTEST) -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(STAMP)
	$(BIN)/python docs/generate.py
	$(BIN)/python -m sphinx -W --keep-going docs site

# GPU_PYTHON=python3: nothing is installed, for machines without a network. The checkout itself is imported.
gpu: $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(STAMP))
	PYTHONPATH=$(CURDIR):$$PYTHONPATH $(GPU_PYTHON) benchmarks/gpu.py --output $(OUT)

# Exit code 3 of the benchmark: a part is over, and another one is needed.
gpu-long: $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(STAMP))
	@test -n "$(DATA)" || { echo "make gpu-long needs DATA=FOLDER with FOLDER/train/CLASS/* and FOLDER/test/CLASS/*"; exit 2; }
	@PYTHONPATH=$(CURDIR):$$PYTHONPATH $(GPU_PYTHON) benchmarks/real_trainings.py --data imagefolder:$(DATA) --output $(OUT)/long \
	  --methods "random,second stage,surrogate" --marks 60 --seed 0,1,2 --epochs 30 --device cuda:0 --workers 2 --jobs 9 \
	  --minutes $(MINUTES); code=$$?; \
	  if [ $$code = 0 ]; then echo "All parts are done."; elif [ $$code = 3 ]; then echo "Part done: make gpu-long again."; \
	  else exit $$code; fi

clean:
	rm -rf site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
