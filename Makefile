# Everything runs from a virtual environment in the tree; the first target that needs it makes it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.installed-runtime
DEV := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install

# Compiled code is kept, whatever the environment says: the tests start hundreds of daemons.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench fuzz clean

help: ## show these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(RUNTIME) ## set everything up, then open 5,000 tunnels on loopback
	$(BIN)/cygnet demo

test: $(DEV) ## set everything up, then run every test
	@tests/interop/packages --if-root
	$(BIN)/python -m pytest -n auto --dist loadgroup $(PYTEST)

check: $(DEV) ## formatter, linter, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV) ## format, and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

BENCHMARK ?= handshake
bench: $(RUNTIME) ## measure, beside strongSwan where it is installed
	@tests/interop/packages --if-root
	$(BIN)/python -m benchmarks.$(BENCHMARK) $(BENCH)

fuzz: $(DEV) ## throw random octets at every decoder for a minute
	$(BIN)/python fuzz/datagrams.py --seconds 60

clean: ## remove the virtual environment and every cache
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find src -name '*.egg-info' -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "cygnet needs Python 3.11 or newer; name one with make PYTHON=python3.x" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	    { echo "no virtual environment could be made; on Debian: apt install python3-venv" >&2; rm -rf $(VENV); exit 1; }

$(RUNTIME): $(VENV)/bin/python pyproject.toml
	$(PIP) --editable '.[speed]'
	@touch $@

$(DEV): $(RUNTIME) pyproject.toml
	$(PIP) --editable '.[speed,dev]'
	@touch $@
