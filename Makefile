# Verbs of the project; nothing else to learn.  They need only python3 and make.
#
#   make run      install into .venv and serve; flags in ARGS="--port 7379 --metrics-port 7390"
#   make test     the whole suite; a part of it, or more output, in ARGS="tests/store -x"
#   make check    format, lint and types
#   make bench    CPU per command against redis-server, and the other figures of the README; ARGS="--quick"
#   make docs     write the generated reference tables again
#   make clean    forget everything that was built

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: run test check bench docs soak clean

run: $(VENV)/installed
	$(BIN)/kora-server $(ARGS)

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/installed-dev
	$(BIN)/python tests/bench/bench.py $(ARGS)

docs: $(VENV)/installed
	$(BIN)/kora docs --write

# Twenty times the random programs of `make test`.
soak: $(VENV)/installed-dev
	KORA_LONG=1 $(BIN)/python -m pytest -n 2 tests/compat tests/resp tests/store $(ARGS)

# Debian installs python3 without ensurepip; there the environment comes from virtualenv, itself only unpacked.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); $(PYTHON) -m virtualenv $(VENV); } || \
	{ echo "make: no way to make an environment: install python3-venv (Debian) or virtualenv" >&2; rm -rf $(VENV); exit 1; }

$(VENV)/installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis bench-results.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
