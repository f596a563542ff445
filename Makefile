# Every target sets up what it needs on the first call and nothing on the next.
# Needed on the machine: make, and Python 3.11 or later with venv.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

VENV ?= .venv
PY := $(VENV)/bin/python
WORK := .make

# The oldest Python that we support comes first: it is what constraints.txt was made with.
# Asked for only where an environment has to be made; `make PYTHON=…` chooses another.
PYTHON ?= $(shell for each in python3.11 python3.12 python3.13 python3.14 python3; do \
	"$$each" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
	>/dev/null 2>&1 && echo "$$each" && break; done)

# Two terminals may run make at the same time; where flock is missing they should not.
LOCKED = $(if $(shell command -v flock),flock $(VENV)/.lock)
PIP = $(LOCKED) $(PY) -m pip install --quiet --disable-pip-version-check
# setuptools warns at every editable install that folders here may hide the package; they are it.
PIP_PINNED = PYTHONWARNINGS='ignore:Editable installation' $(PIP) \
	--constraint constraints.txt --no-build-isolation

# The stamps lie in the environment: whoever removes it removes them too.
FOR_RUN := $(VENV)/.ready-to-run
FOR_WORK := $(VENV)/.ready-to-work

TESTS ?= tests
# Most tests wait for processes and servers: more of them than processors at a time.  Those of a
# file stay together, since they share what the file has started.
WORKERS ?= 3
SIDE_BY_SIDE = --numprocesses $(WORKERS) --dist loadfile
PYTEST_OPTIONS ?=
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.PHONY: help
help: ## Say what can be made.
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | \
		while IFS='|' read -r target text; do printf '  make %-12s %s\n' "$$target" "$$text"; done

.PHONY: run
run: $(FOR_RUN) ## Run the demo: compare astronomy libraries by a graph of real jobs.
	@$(PY) -m flows.run demo

.PHONY: test
test: $(FOR_WORK) ## Run the tests (TESTS=tests/observers runs some of them).
	@$(PY) -m pytest -m "not soak" $(SIDE_BY_SIDE) $(PYTEST_OPTIONS) $(TESTS)

.PHONY: check lint format-check types imports
check: lint format-check types imports ## Lint, formatting, types, and the rule of the rooms.

lint: $(FOR_WORK)
	@$(PY) -m ruff check

format-check: $(FOR_WORK)
	@$(PY) -m ruff format --check

types: $(FOR_WORK)
	@$(PY) -m mypy

imports: $(FOR_WORK)
	@$(VENV)/bin/lint-imports

.PHONY: format
format: $(FOR_WORK) ## Format the code and mend what the linter can mend.
	@$(PY) -m ruff check --fix-only --quiet
	@$(PY) -m ruff format

.PHONY: newest
newest: ## Run the tests on the newest releases that the bounds in pyproject.toml admit.
	@$(MAKE) --no-print-directory VENV=$(WORK)/newest $(WORK)/newest/.ready-newest
	@$(WORK)/newest/bin/python -m pytest -m "not soak" $(PYTEST_OPTIONS) $(TESTS)

.PHONY: soak
soak: $(FOR_WORK) ## Run the slow suites at full size; takes hours.
	@HOLDFAST_SOAK=1 $(PY) -m pytest -m "slow or soak" $(PYTEST_OPTIONS) $(TESTS)

.PHONY: sabotage
sabotage: $(FOR_WORK) ## Break one line at a time: its test must go red (SABOTAGE=--sample 5).
	@$(PY) tests/sabotage.py $(SABOTAGE)

.PHONY: unprivileged
unprivileged: $(FOR_WORK) ## Run the tests of stopping without root's rights and without cgroups.
	@PYTHON=$(PY) tests/run_unprivileged.sh $(PYTEST_OPTIONS)

.PHONY: serve
serve: $(FOR_RUN) ## Start a Prefect server, a work pool and a worker on loopback.
	@$(PY) -m flows.serve

.PHONY: bench
bench: $(FOR_WORK) ## Measure throughput beside make, ninja and bare processes.
	@$(PY) benchmarks/observer_cost.py
	@$(PY) benchmarks/throughput.py

FROM ?= $(VENV)
.PHONY: constraints
constraints: ## Pin what is installed in .venv (FROM=.make/newest: what `make newest` found).
	@{ sed '/^[^#]/,$$d' constraints.txt; \
		$(FROM)/bin/python -m pip list --format=freeze --disable-pip-version-check \
			--exclude holdfast 2>/dev/null | LC_ALL=C sort -f; } > constraints.new
	@mv constraints.new constraints.txt
	@echo "constraints.txt pins $$(grep -c == constraints.txt) packages"

.PHONY: clean
clean: ## Remove the environments and every cache; runs/ and results/ stay.
	@rm -rf .venv $(WORK) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache \
		.import_linter_cache .hypothesis .benchmarks
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- set-up ----------------------------------------------------------------------------------

$(PY):
	@test -n "$(PYTHON)" || { \
		echo 'make: no Python 3.11 or later with venv was found; install one' \
			'(Debian: apt-get install python3-venv) or name it: make PYTHON=/path/to/python' >&2; \
		exit 2; }
	@echo "making $(VENV) with $(PYTHON)" >&2
	@$(PYTHON) -m venv $(VENV)

# The build backend is pinned too: it is installed first and then used as it is.
$(FOR_RUN): pyproject.toml constraints.txt | $(PY)
	@echo "installing what a run needs into $(VENV)" >&2
	@$(PIP) --constraint constraints.txt --upgrade pip setuptools
	@$(PIP_PINNED) --editable '.[lab]'
	@touch $@

# After the other, never beside it: two pips in one environment break it.
$(FOR_WORK): pyproject.toml constraints.txt | $(FOR_RUN)
	@echo "installing the tools for tests and checks into $(VENV)" >&2
	@$(PIP_PINNED) --editable '.[dev,lab]'
	@touch $@

$(WORK)/newest/.ready-newest: pyproject.toml | $(PY)
	@echo "installing the newest releases into $(VENV)" >&2
	@$(PIP) --upgrade pip 'setuptools>=77'
	@PYTHONWARNINGS='ignore:Editable installation' $(PIP) --upgrade --upgrade-strategy eager \
		--no-build-isolation --editable '.[dev,lab]'
	@touch $@
