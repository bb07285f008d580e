# Hearth: one command each. 'make help' lists them.
#
# Every target that runs our code first makes .venv what the locks say (build/bootstrap.py); with nothing
# to do that takes a moment and touches no network. Settings travel as HEARTH_* variables; PACK is short
# for HEARTH_PACK:   PACK=tiny HEARTH_PORT=9000 make run

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run setup setup-dev test-models test coverage clients check format bench binary lock clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# -S -E: set-up needs the standard library only, and starts faster without the rest.
BOOTSTRAP = $(if $(PYTHON),,$(error Python 3.11 is needed. On Debian 12: apt-get install python3 python3-venv))$(PYTHON) -S -E build/bootstrap.py
VENV_PYTHON := .venv/bin/python
PYTEST_ARGS ?=

ifdef PACK
export HEARTH_PACK := $(PACK)
endif

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

run: setup ## Set up, fetch the pack's models if missing, and serve on 127.0.0.1:8080 (PACK=tiny, HEARTH_PORT=…)
	@exec $(VENV_PYTHON) -m appliance serve

setup: ## Make .venv for serving
	@$(BOOTSTRAP) run

setup-dev: ## Make .venv for tests and checks as well
	@$(BOOTSTRAP) dev

test-models: setup-dev
	@$(VENV_PYTHON) -m appliance models pull --pack tiny
	@$(VENV_PYTHON) -m appliance models pull ms-marco-minilm-l-12-v2 multilingual-e5-small

test: test-models ## Set up and pass the tests (PYTEST_ARGS='-k words')
	@$(VENV_PYTHON) -m pytest $(PYTEST_ARGS)

# Rooms whose every branch the tests take; of the others it is reported.
COVERED = appliance/store/*,appliance/security/*,appliance/routing/policy.py

coverage: test-models ## Pass the tests and tell which branches they take; fail where store, security or the policies are not covered whole
	@.venv/bin/coverage erase
	@.venv/bin/coverage run -m pytest $(PYTEST_ARGS); status=$$?; \
	.venv/bin/coverage combine -q && .venv/bin/coverage report && \
	.venv/bin/coverage report --include='$(COVERED)' --fail-under=100 && exit $$status

clients: test-models ## Test with every client: those of make test, and LangChain, LiteLLM, LlamaIndex on the pack starter (500 MB more to install)
	@$(BOOTSTRAP) clients
	@$(VENV_PYTHON) -m appliance models pull --pack starter
	@$(VENV_PYTHON) -m pytest tests/clients --ignore tests/clients/ecosystem $(PYTEST_ARGS)
	@.venv-clients/bin/python -m pytest -c tests/clients/ecosystem/pytest.ini tests/clients/ecosystem $(PYTEST_ARGS)

check: setup-dev ## Lint, formatting and strict types
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy
	@MYPYPATH=build .venv/bin/mypy build/*.py

format: setup-dev ## Put the code into the house's format
	@.venv/bin/ruff check --fix
	@.venv/bin/ruff format

bench: test-models ## Measure (the last line of each benchmark is JSON)
	@$(VENV_PYTHON) -m tests.bench $(BENCH_ARGS)

binary: setup-dev ## Make dist/hearth, one file with the pack tiny inside, and rehearse it on a bare root (PACK=starter: dist/hearth-starter)
	@$(VENV_PYTHON) -m appliance models pull --pack $(or $(PACK),tiny)
	@$(VENV_PYTHON) build/bundle.py $(or $(PACK),tiny)
	@$(VENV_PYTHON) build/rehearse.py dist/hearth$(if $(filter-out tiny,$(PACK)),-$(PACK))
	@HEARTH_TEST_PROGRAM=dist/hearth$(if $(filter-out tiny,$(PACK)),-$(PACK)) $(VENV_PYTHON) -m pytest -q tests/tui/test_one_file.py

lock: ## Make the locks from pyproject.toml, keeping pins that still fit (UPGRADE=1: take the newest)
	@$(PYTHON) build/relock.py

clean: ## Remove .venv and everything made here; compiled wheels and models stay in their own directories
	rm -rf .venv .venv-clients .work dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find appliance models tui tests build -name __pycache__ -type d -prune -exec rm -rf {} +
