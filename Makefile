# The developer's and the newcomer's commands. `make help` lists them.
#
# Variables that may be given on the command line:
#   PYTHON       interpreter that makes the environment; by default the first that pyproject.toml allows
#   PIP_ARGS     more arguments for `pip install`, for example to choose another build of torch
#   PYTEST_ARGS  more arguments for pytest
#   STUDY_ARGS   more arguments for `prx-scale quickstart`, for example --out DIR

SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
PIP_ARGS ?=
PYTEST_ARGS ?=
STUDY_ARGS ?=
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q $(PIP_ARGS)

PYTHON_CANDIDATES := python3.11 python3.12 python3.13 python3 python
PYTHON_ALLOWED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))

# Compute threads that wait by spinning starve those that work where processes share cores.
export OMP_WAIT_POLICY ?= PASSIVE
# pip stays quiet about being root: everything goes into the environment.
export PIP_ROOT_USER_ACTION ?= ignore

.PHONY: help quickstart smoke test test-fast test-slurm lint install clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.* ## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-12s %s\n' "$$name" "$$text"; done

quickstart: $(VENV)/.trained ## environment, then the whole chain to quickstart/report.html (about ten minutes)
	$(BIN)/prx-scale quickstart $(STUDY_ARGS)

smoke: $(VENV)/.trained ## environment, then the chain in short to quickstart-smoke/report.html
	$(BIN)/prx-scale quickstart --smoke $(STUDY_ARGS)

test: $(VENV)/.tested ## environment with the test tools, then all tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-fast: $(VENV)/.tested ## the tests that take less than five seconds each
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-slurm: $(VENV)/.tested ## the tests on a real SLURM of this machine's own; installs it (root on Debian)
	$(BIN)/python -m tests.cluster.packages
	PRX_REQUIRE_SLURM=1 $(BIN)/python -m pytest tests/cluster $(PYTEST_ARGS)

lint: $(VENV)/.tested ## ruff (rules and format) and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

install: $(VENV)/.tested ## only the environment

clean: ## remove the environment and the caches; studies stay
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@set -e; python=; \
	for candidate in $(if $(PYTHON),'$(PYTHON)',$(PYTHON_CANDIDATES)); do \
		if "$$candidate" -c '$(PYTHON_ALLOWED)' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "make: no Python from 3.11 to 3.13 among: $(if $(PYTHON),$(PYTHON),$(PYTHON_CANDIDATES));" \
			"install one, or name it: make PYTHON=/path/to/python3.11" >&2; \
		exit 1; \
	fi; \
	echo "making $(VENV) with $$("$$python" --version)"; \
	if "$$python" -c 'import ensurepip' 2>/dev/null; then \
		"$$python" -m venv --clear $(VENV); \
	else \
		"$$python" -m venv --clear --without-pip $(VENV); \
		"$$python" -m pip --python $(BIN)/python install --disable-pip-version-check -q pip; \
	fi
	@touch $@

# torch first and with the exact version of pyproject.toml, so that no later step can pull in another build of it.
$(VENV)/.torch: pyproject.toml $(VENV)/.made
	@torch=$$(sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml); \
	if [ -z "$$torch" ]; then echo "make: pyproject.toml pins no torch" >&2; exit 1; fi; \
	echo "installing $$torch"; \
	$(PIP) "$$torch"
	@touch $@

$(VENV)/.trained: $(VENV)/.torch
	@echo "installing prx-scale with its training extra"
	@$(PIP) -e '.[train]'
	@touch $@

$(VENV)/.tested: $(VENV)/.trained
	@echo "installing the test tools"
	@$(PIP) -e '.[train,test]'
	@touch $@
