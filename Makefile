# Everything runs in a .venv made here; `make demo` and `make test` need only Python 3.10+, make and git.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Where `make gpu` and `make gpu-long` put their numbers, what runs them (an interpreter with zenopt's dependencies, instead of
# Where `make gpu` and `make gpu-long` put their numbers, what runs them (an interpreter with zenopt's dependencies, instead of
# the one made here); of `gpu-long` the images (PATH/train/CLASS/*, PATH/test/CLASS/*), the tables of trained networks, what is
# done, and further options of supernets and cells (benchmarks/gpu_cells.py).
OUT ?= gpu-results
GPU_PYTHON ?= $(BIN)/python
DATA ?=
TABLES ?=
PARTS ?= trainings supernets cells
CELLS_OPTIONS ?=
DEVICE ?= cuda:0
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
	@echo "make gpu-long DATA=FOLDER TABLES=FOLDER   searches by trainings, supernets and differentiable searches of cells on a GPU,"
	@echo "            MINUTES=8.5 at a time: repeat until it says done; PARTS=\"$(PARTS)\" chooses; without TABLES only trainings"

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

# Exit code 3 of a benchmark: a part is over, and another one is needed. All of them share the minutes.
gpu-long: $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(STAMP))
	@test -n "$(DATA)" || { echo "make gpu-long needs DATA=FOLDER with FOLDER/train/CLASS/* and FOLDER/test/CLASS/*"; exit 2; }
	@export PYTHONPATH=$(CURDIR):$$PYTHONPATH; code=0; trainings=; cells=; \
	for part in $(PARTS); do case $$part in \
	  trainings) trainings=trainings;; supernets|cells) cells=$${cells:+$$cells,}$$part;; \
	  *) echo "PARTS has trainings, supernets and cells, not $$part"; exit 2;; esac; done; \
	until=$$($(GPU_PYTHON) -c "import time; print(time.time() + 60 * $(MINUTES))") || exit 2; \
	if [ -n "$$cells" ] && [ -z "$(TABLES)" ]; then \
	  echo "Left out: $$cells. TABLES=FOLDER is needed, with nb201_accuracy.csv.gz and nas_bench_macro_cifar10.csv.gz."; cells=; fi; \
	test -n "$$trainings$$cells" || exit 2; \
	if [ -n "$$trainings" ]; then \
	  $(GPU_PYTHON) benchmarks/real_trainings.py --data imagefolder:$(DATA) --output $(OUT)/long \
	    --methods "random,second stage,surrogate" --marks 60 --seed 0,1,2 --epochs 30 --device $(DEVICE) --workers 2 --jobs 9 \
	    --until $$until || code=$$?; fi; \
	if [ $$code = 0 ] && [ -n "$$cells" ]; then \
	  $(GPU_PYTHON) benchmarks/gpu_cells.py --data imagefolder:$(DATA) --tables $(TABLES) --output $(OUT)/cells \
	    --parts $$cells --device $(DEVICE) --jobs 8 --until $$until $(CELLS_OPTIONS) || code=$$?; fi; \
	if [ $$code = 0 ]; then echo "Done:" $$trainings $$cells; elif [ $$code = 3 ]; then echo "Part done: make gpu-long again."; \
	else exit $$code; fi

clean:
	rm -rf site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
