# Verbs of the project; nothing else to learn.  They need only python3 and make, and a C compiler for the kernel:
# without one everything runs on pure Python, and says so.  With KORA_REQUIRE_KERNEL=1 that is an error.
#
#   make run      install into .venv and serve; flags in ARGS="--port 7379 --metrics-port 7390"
#   make test     the whole suite on pure Python, then all of it on the kernel that has to do with one; a part, or more
#                 output, in ARGS="tests/store -x"
#   make check    format, lint and types
#   make bench    CPU per command against redis-server, and the other figures of the README; ARGS="--quick"
#   make compile  the kernel again, in place, after a change of its C or Cython; only what changed, warnings are errors
#   make stored   some tests with all data in RocksDB, read anew at each request; make stored-all for all that can be
#   make sanitize the suite, then ten minutes of make fuzz, on a kernel that ends the process at its first false step
#   make fuzz     random requests, on the kernel and on pure Python; ARGS="--seconds 60"
#   make fuzz-snapshots   snapshots with bytes flipped and cut, the same way
#   make crash    kill the server under load three hundred times, cut its power, and bend its journals; ARGS="--kills 50"
#   make faults   each fault that DOCTOR finds, twenty times, and ten minutes of which nothing is wrong
#   make docs     write the generated reference tables again
#   make clean    forget everything that was built

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# One more than processors where this has to be quick: a third of the time a test waits for servers and their clocks.
PYTEST := python -m pytest -n 3 --dist worksteal
NO_TESTS := 5  # what pytest ends with where the second run has nothing to do
KERNEL := $(wildcard kora/kernel/*.c kora/kernel/*.h kora/kernel/*.pyx kora/kernel/*.pxi kora/kernel/build.py)

# What Node's applications need, from the registry that npm is set to use.
NODE := build/node
NODE_PACKAGES := tests/e2e/applications/node

.PHONY: run test stored stored-all check bench compile sanitize fuzz fuzz-snapshots crash docs soak faults clean

run: $(VENV)/installed
	@$(BIN)/python -m kora.kernel || true
	$(BIN)/kora-server $(ARGS)

test: $(VENV)/installed-dev $(NODE)/installed
	@echo "make: first run of the suite, on pure Python"
	KORA_KERNEL=off $(BIN)/$(PYTEST) $(ARGS)
	@if env -u KORA_KERNEL $(BIN)/python -m kora.kernel; then \
	  echo "make: second run of the suite, on the kernel"; \
	else \
	  echo "make: THE KERNEL IS NOT COMPILED, so only pure Python was tested: install gcc and python3-dev (Debian)," \
	    "then make compile" >&2; \
	  test "$$KORA_REQUIRE_KERNEL" != 1 || { echo "make: KORA_REQUIRE_KERNEL=1 forbids that" >&2; exit 1; }; \
	  exit 0; \
	fi; \
	set -x; env -u KORA_KERNEL $(BIN)/$(PYTEST) -m "not once" $(ARGS) || test $$? = $(NO_TESTS)
	@test -n "$(ARGS)" || { echo "make: third run, of some, with all data in RocksDB"; $(MAKE) --no-print-directory stored; }

# At each request values go to the store and come back: as many of the tests as half a minute takes, of every kind.
STORED := $(addprefix tests/,commands/test_generic.py commands/test_hashes.py commands/test_notifications.py \
  commands/test_scanning.py commands/test_scripting.py commands/test_streams.py commands/test_tracking.py \
  commands/test_transactions.py compat/test_mixed_commands.py compat/test_expiry.py compat/test_scan.py \
  compat/test_stored_programs.py)
stored: $(VENV)/installed-dev
	KORA_TEST_STORAGE=rocksdb $(BIN)/$(PYTEST) -m "not once" $(or $(ARGS),$(STORED))

# All of them, on pure Python and on the kernel, and twenty minutes of random programs on a server whose keys are cold.
stored-all: $(VENV)/installed-dev
	KORA_KERNEL=off KORA_TEST_STORAGE=rocksdb $(BIN)/$(PYTEST) tests/commands tests/compat $(ARGS)
	env -u KORA_KERNEL KORA_TEST_STORAGE=rocksdb $(BIN)/$(PYTEST) tests/commands tests/compat $(ARGS)
	KORA_KERNEL=off KORA_LONG=1 $(BIN)/python -m pytest -n 0 tests/compat/test_stored_programs.py
	env -u KORA_KERNEL KORA_LONG=1 $(BIN)/python -m pytest -n 0 tests/compat/test_stored_programs.py

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/installed-dev
	$(BIN)/python tests/bench/bench.py $(ARGS)

docs: $(VENV)/installed
	$(BIN)/kora docs --write

# An installation is compiled from scratch, in pip's own environment.  This keeps its objects in build/, and tells the
# installations that their kernel is new; not so where pyproject.toml asks for another installation.
compile:
	test -e $(VENV)/installed-dev || $(MAKE) $(VENV)/installed-dev
	KORA_REQUIRE_KERNEL=1 $(BIN)/python -W ignore -c "import setuptools; setuptools.setup()" --quiet build_ext --inplace
	for stamp in $(VENV)/installed $(VENV)/installed-dev; do test pyproject.toml -nt $$stamp || touch $$stamp; done

# AddressSanitizer and UndefinedBehaviorSanitizer on a copy of the tree, whose kernel runs in no other.  Assertions count
# here, and signed numbers must not overflow, which Python's own flags would define.  A warning is no error: with
# sanitizers gcc suspects more.  Python's own allocator would hide what is read after it was freed; its leaks are many
# and not ours.
SANITIZED := build/sanitized
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -O1 -g -UNDEBUG \
  -fno-wrapv -Wno-error
# These weigh the process, and a sanitizer keeps what was freed for a while.
WEIGHING := tests/store/test_sizes.py::test_estimate_is_within_a_tenth_of_what_the_process_has_grown_by \
  tests/faults/test_back_pressure.py::test_a_client_that_does_not_read_costs_little_memory_and_gets_all_replies_in_order \
  tests/faults/test_back_pressure.py::test_many_clients_that_never_read_cost_little_memory_each \
  tests/faults/test_bad_clients.py::test_leaving_in_the_middle_of_a_reply \
  tests/resp/test_parser.py::test_an_announced_length_costs_the_kernel_nothing \
  tests/resp/test_parser.py::test_a_large_bulk_costs_the_kernel_at_most_twice_its_bytes_until_the_last_has_come
# The programs of others run as they are: redis-server, for one, reads differently on an allocator that is not its own.
PEERS := redis-server redis-cli redis-benchmark prometheus promtool openssl
SANITIZED_ENV = env -u KORA_KERNEL PATH="$(CURDIR)/$(SANITIZED)/bin:$$PATH" \
  PYTHONPATH="$(CURDIR)/$(SANITIZED)" PYTHONMALLOC=malloc \
  LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
sanitize: $(VENV)/installed-dev $(NODE)/installed
	rm -rf $(SANITIZED)/kora $(SANITIZED)/tests $(SANITIZED)/bin
	mkdir -p $(SANITIZED)/bin
	for program in $(PEERS); do path=$$(command -v $$program) || continue; \
	  printf '#!/bin/sh\nexec env -u LD_PRELOAD %s "$$@"\n' "$$path" > $(SANITIZED)/bin/$$program; \
	  chmod +x $(SANITIZED)/bin/$$program; \
	done
	tar -cf - --exclude=./.git --exclude=./.venv --exclude=./build --exclude='*.so' --exclude=__pycache__ . | \
	  tar -xf - -C $(SANITIZED)
	mkdir -p $(SANITIZED)/build && ln -sfn $(CURDIR)/$(NODE) $(SANITIZED)/$(NODE)
	cd $(SANITIZED) && KORA_REQUIRE_KERNEL=1 CC=gcc CFLAGS="$(SANITIZERS)" \
	  $(CURDIR)/$(BIN)/python -W ignore -c "import setuptools; setuptools.setup()" --quiet build_ext --inplace
	cd $(SANITIZED) && $(SANITIZED_ENV) $(CURDIR)/$(BIN)/python -m kora.kernel
	cd $(SANITIZED) && $(SANITIZED_ENV) $(CURDIR)/$(BIN)/$(PYTEST) -m "not once" $(addprefix --deselect ,$(WEIGHING)) $(ARGS)
	cd $(SANITIZED) && $(SANITIZED_ENV) $(CURDIR)/$(BIN)/python tests/fuzz/run.py --seconds 600

# tests/fuzz/atheris_target.py goes on from there byte by byte; it needs pip install -e ".[fuzz]" in .venv.
fuzz: $(VENV)/installed-dev
	$(BIN)/python tests/fuzz/run.py $(ARGS)

fuzz-snapshots: $(VENV)/installed-dev
	$(BIN)/python tests/fuzz/snapshots.py $(ARGS)

# Fifteen times the crashes of `make test`, at moments of chance and in place of every kind of call to the disk, and 250
# times as many mutated journals.
crash: $(VENV)/installed-dev
	$(BIN)/python tests/faults/run.py $(ARGS)
	KORA_LONG=1 $(BIN)/python -m pytest -n 2 tests/persist/test_journal_mutations.py

# Eighty times the random programs of `make test`, then 50 million commands, after which memory must be what it was,
# and 10 million accesses, of which HOTKEYS must find the hottest keys.
soak: $(VENV)/installed-dev
	KORA_LONG=1 $(BIN)/python -m pytest -n 2 tests/compat tests/resp tests/store tests/kernel $(ARGS)
	$(BIN)/python tests/fuzz/soak.py
	$(BIN)/python tests/fuzz/hot_keys.py

# Half an hour; tests/faults/ward.py has the faults.
faults: $(VENV)/installed-dev
	KORA_LONG=1 $(BIN)/python -m pytest -n 0 -s tests/faults/test_doctor.py $(ARGS)

# Debian installs python3 without ensurepip; there the environment comes from virtualenv, itself only unpacked.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); $(PYTHON) -m virtualenv $(VENV); } || \
	{ echo "make: no way to make an environment: install python3-venv (Debian) or virtualenv" >&2; rm -rf $(VENV); exit 1; }

# An editable installation has changed Python at once, but a changed kernel only when it is made again.
$(VENV)/installed: $(VENV)/bin/python pyproject.toml $(KERNEL)
	$(PIP_INSTALL) --editable ".[all]" || { \
	  echo "make: an extra could not be installed, and what needs it will say so: see optional-dependencies" >&2; \
	  $(PIP_INSTALL) --editable .; }
	touch $@

$(VENV)/installed-dev: $(VENV)/bin/python pyproject.toml $(KERNEL)
	$(PIP_INSTALL) --editable ".[dev,apps]"
	touch $(VENV)/installed $@

# Not npm ci, which wants every package's variants for all other platforms in the lock file.  Nothing is run that a
# package brings, and where there is no way to get them, the tests that need them say so.
$(NODE)/installed: $(NODE_PACKAGES)/package.json $(NODE_PACKAGES)/package-lock.json | $(VENV)/installed-dev
	@mkdir -p $(NODE) && cp $(NODE_PACKAGES)/package.json $(NODE_PACKAGES)/package-lock.json $(NODE)
	@PATH="$(CURDIR)/$(BIN):$$PATH" npm install --prefix $(NODE) --omit=optional --ignore-scripts --no-audit --no-fund \
	  --loglevel=error >/dev/null && touch $@ || \
	echo "make: THE PACKAGES OF $(NODE_PACKAGES) ARE NOT INSTALLED, so what needs them is not tested" >&2

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis bench-results.json
	rm -f kora/kernel/*.so kora/kernel/_kernel.c
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
