# Set-up, tests and measurements: each target sets up what it needs, once.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

# The first Python that is new enough; name another with PYTHON=…
CANDIDATES := python3 python3.15 python3.14 python3.13 python3.12 python3.11
ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
ifndef PYTHON
PYTHON := $(shell for p in $(CANDIDATES); do $$p -c '$(ENOUGH)' 2>/dev/null && echo $$p && break; done)
endif
VERSION := $(shell $(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null)
ifeq ($(VERSION),)
$(error no Python 3.11 or newer is on PATH: install one, or name it with PYTHON=/path/to/python)
endif

VENV ?= .venv
LOCK ?= requirements/dev.txt
# Tests to run, and further options of pytest: make suite TESTS=tests/test_tree.py ARGS=-x
TESTS ?= tests
ARGS ?=
# Processes of the suite: so many, or one for each CPU
JOBS ?= logical
# Backend of the demo; empty: the one the loop chooses by itself
BACKEND ?=

BIN := $(VENV)/bin
BUILD := build/$(subst /,-,$(patsubst .%,%,$(VENV)))
# The environment's tools, for those that look for others by name
WITH := PATH="$(abspath $(BIN)):$$PATH"
PIP := $(WITH) python -m pip --disable-pip-version-check --quiet --quiet
BUILD_OPTIONS ?=
# Modules with a stub, kqueue's aside: not every system can import it
STUBS = $(subst /,.,$(patsubst src/%.pyi,%,$(shell find src -name '*.pyi' -not -name kqueue.pyi)))
SOURCES := pyproject.toml meson.build README.md LICENSE \
	$(shell find src -type f -not -path '*/__pycache__/*') \
	$(shell find src -type d -not -name __pycache__)

CREATED := $(VENV)/.created
DEPENDENCIES := $(VENV)/.dependencies
INSTALLED := $(VENV)/.installed

.PHONY: help
help: ## Show this help
	@echo 'neverblock: make TARGET [VARIABLE=value]'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20
	@echo
	@echo '  PYTHON=$(PYTHON)  VENV=$(VENV)  TESTS=$(TESTS)  ARGS=$(ARGS)  BACKEND=$(BACKEND)'

# Anew, too, when PYTHON is another version by now.
$(CREATED): $(if $(filter $(VERSION),$(shell cat $(CREATED) 2>/dev/null)),,FORCE)
	@echo 'creating $(VENV) with Python $(VERSION)'
	@rm -rf $(BUILD) && $(PYTHON) -m venv --clear $(VENV)
	@echo $(VERSION) >$@

.PHONY: FORCE

$(DEPENDENCIES): $(CREATED) $(LOCK)
	@echo 'installing what $(LOCK) pins into $(VENV)'
	@$(PIP) install --require-hashes --requirement $(LOCK)
	@touch $@

$(INSTALLED): $(DEPENDENCIES) $(SOURCES)
	@echo 'building and installing neverblock into $(VENV)'
	@$(PIP) install --no-build-isolation --no-deps --force-reinstall \
		--config-settings=build-dir=$(BUILD) $(BUILD_OPTIONS) .
	@touch $@

.PHONY: setup
setup: $(DEPENDENCIES) ## Create .venv and install the pinned dependencies

.PHONY: build
build: $(INSTALLED) ## Compile the package and install it into .venv

.PHONY: test
test: lint conformance suite ## Everything: lint, conformance on each Python, the suite

PYTEST = NEVERBLOCK_BUILD=$(abspath $(BUILD)) $(BIN)/python -m pytest

# Tests that are chosen run one after the other, in one process.
.PHONY: suite
ifeq ($(TESTS)$(ARGS),tests)
suite: suite-beside suite-alone ## The test suite, on one Python: TESTS=… ARGS=… choose some
else
suite: $(INSTALLED)
	$(PYTEST) $(ARGS) $(TESTS)
endif

.PHONY: suite-beside
suite-beside: $(INSTALLED)
	$(PYTEST) -m 'not alone' --numprocesses=$(JOBS) --dist=loadfile $(TESTS)

.PHONY: suite-alone
suite-alone: $(INSTALLED)
	$(PYTEST) -m alone $(TESTS)

.PHONY: lint
lint: $(INSTALLED) ## ruff, mypy --strict, stubs against the compiled modules, cython-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	@echo 'mypy, and stubtest beside it'
	@$(BIN)/stubtest $(STUBS) --concise --ignore-disjoint-bases --allowlist tests/stubtest.txt \
		--mypy-config-file pyproject.toml >$(BUILD)/stubtest.txt 2>&1 & stubtest=$$!; failed=0; \
	$(BIN)/mypy || failed=1; wait $$stubtest || failed=1; cat $(BUILD)/stubtest.txt; exit $$failed
	$(WITH) cython-lint src

# Tests of what looks into the interpreter itself, and so depends on its version
INSIDES := tests/watch/test_causes.py tests/watch/test_samples.py tests/watch/test_fork.py tests/watch/guard

.PHONY: conformance
conformance: $(INSTALLED) ## CPython's own asyncio tests on each backend and each Python; there, the watch
	@$(BIN)/python scripts/pythons.py | { failed=0; while read -r version python; do \
		if $(BIN)/python -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$$version')"; \
		then venv=$(VENV); lock=$(LOCK); todo='conformance-here conformance-io-uring'; \
		else venv=$(VENV)-$$version; lock=requirements/pythons.txt; \
			todo='conformance-here insides-here'; fi; \
		$(MAKE) --no-print-directory $$todo \
			PYTHON="$$python" VENV="$$venv" LOCK="$$lock" </dev/null || failed=1; \
	done; exit $$failed; }

.PHONY: conformance-here
conformance-here: $(INSTALLED)
	$(BIN)/python tests/conformance/run.py --loop neverblock --backends all

# On this Python, and those tests alone whose loops read, write and start processes.
.PHONY: conformance-io-uring
conformance-io-uring: $(INSTALLED)
	$(BIN)/python tests/conformance/run.py --loop neverblock --backends io_uring \
		test_buffered_proto test_server test_sock_lowlevel test_streams test_subprocess test_unix_events

.PHONY: insides-here
insides-here: $(INSTALLED)
	$(BIN)/python -m pytest $(INSIDES)

.PHONY: demo
demo: $(INSTALLED) ## A key-value server with 10,000 idle clients, and what models cost (BACKEND=…)
	$(BIN)/python examples/demo.py $(if $(BACKEND),--backend $(BACKEND)) $(ARGS)
	$(BIN)/neverblock compare examples/echo.py:handle --models loop,thread,process \
		--connections 1,100 --quick --out build/demo

.PHONY: bench
bench: $(INSTALLED) $(VENV)/.bench ## Benchmarks beside other loops
	$(BIN)/python -m bench $(ARGS)

$(VENV)/.bench: requirements/bench.txt $(CREATED)
	@$(PIP) install --require-hashes --requirement $<
	@touch $@

.PHONY: soak
soak: $(INSTALLED) ## A million connections: no growth of memory (many minutes)
	$(BIN)/python -m bench.soak $(ARGS)

.PHONY: samples
samples: $(INSTALLED) ## A million stacks taken at random moments: no crash, no lost signal (minutes)
	$(BIN)/python -m bench.samples $(ARGS)

SANITIZED := -Csetup-args=-Db_sanitize=address,undefined -Csetup-args=-Db_lundef=false \
	-Csetup-args=-Dbuildtype=debugoptimized

.PHONY: asan
asan: ## The suite once, with the address and undefined-behaviour sanitizers compiled in
	@$(MAKE) --no-print-directory build VENV=$(VENV)-asan BUILD_OPTIONS='$(SANITIZED)'
	LD_PRELOAD="$$(cc -print-file-name=libasan.so)" PYTHONMALLOC=malloc \
		ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
		$(VENV)-asan/bin/python -m pytest --ignore=tests/test_package.py --ignore=tests/docs -m 'not memory' \
		$(ARGS) $(TESTS)

.PHONY: format
format: $(DEPENDENCIES) ## Let ruff lay out the Python files and mend what it can
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

.PHONY: lock
lock: $(CREATED) ## Pin the newest dependencies in requirements/
	@test -x build/lock/bin/uv || { $(PYTHON) -m venv build/lock && build/lock/bin/pip install --quiet uv; }
	@uv() { build/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--generate-hashes --no-annotate --custom-compile-command 'make lock' "$$@"; }; \
	uv --group dev --output-file requirements/dev.txt pyproject.toml; \
	uv --group pythons --constraints requirements/dev.txt --output-file requirements/pythons.txt pyproject.toml; \
	uv --group bench --constraints requirements/dev.txt --output-file requirements/bench.txt

# Programs that tests use where they are present, and the Debian packages that have them
PROGRAMS := redis-server redis-cli socat curl openssl strace wrk chromium ip gdb
PACKAGES := redis-server redis-tools socat curl openssl strace wrk chromium iproute2 gdb

.PHONY: system-packages
system-packages: ## Debian packages that some tests use where they are present (needs root)
	@if command -v $(PROGRAMS) | wc -l | grep -qx $(words $(PROGRAMS)); then exit 0; fi; \
	if ! command -v apt-get >/dev/null || [ "$$(id -u)" != 0 ]; \
	then echo 'system-packages: needs apt-get and root; some tests of real clients will be skipped' >&2; exit 1; fi; \
	export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1; \
	apt-get -qq update && apt-get -qq install --no-install-recommends -y $(PACKAGES)

.PHONY: clean
clean: ## Remove all that was built, environments included
	rm -rf .venv .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests bench examples scripts -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
