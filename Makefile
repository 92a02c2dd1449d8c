# Everything is done from here. `make demo` and `make test` need Python 3.11+ and a package registry, nothing else.
#
#   make demo    a request becomes a served model, on an example workspace in .demo/
#   make test    the whole suite against a real nats-server; ARGS="-k name" narrows it
#   make long    the tests that are too long for every change: whole pipelines, outages, replicas
#   make lint    style, import contracts, published schemas
#   make types   strict types
#   make lock    resolves deploy/requirements/*.txt again; ARGS=--upgrade takes newer versions
#   make bench   measures what the documents promise, beside other systems; ARGS="--parts start" narrows it
#   make chaos   kills the real services 200 times and counts what is lost; ARGS="--seed 7 --nodes 3 --kills 50"
#   make clean   removes whatever these made

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
PARSER := node_modules/@asyncapi/parser/package.json
PARSER_VERSION := 3.6.3
ARGS ?=
# Some shells forbid Python to keep what it has compiled: each of hundreds of processes here would compile it again.
unexport PYTHONDONTWRITEBYTECODE
# Two more than there are processors: the tests wait for other processes a third of their time.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 2)

.DEFAULT_GOAL := help
.PHONY: help venv demo test long lint types lock bench chaos clean

help:
	@sed -n 's/^#   //p' Makefile

venv: $(INSTALLED)

# Installed from hashed locks without build isolation: pip fetches what is locked and nothing else.
$(INSTALLED): deploy/requirements/dev.txt pyproject.toml services/ml_engineer/blueprint/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r $<
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: venv
	@$(BIN)/python examples/demo.py $(ARGS)

test: venv
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

long: venv
	$(BIN)/python -m pytest -n $(WORKERS) -m long $(ARGS)

lint: venv $(if $(shell command -v node),asyncapi)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m contracts.asyncapi --check

# The parser is AsyncAPI's own. It is not needed to run or test anything, so a machine without node leaves it out.
.PHONY: asyncapi
asyncapi: $(PARSER)
	node tests/architecture/asyncapi_check.mjs contracts/schema/asyncapi.json

$(PARSER): Makefile
	npm install --silent --no-save --no-package-lock --ignore-scripts --prefix . @asyncapi/parser@$(PARSER_VERSION)
	@touch $@

types: venv
	$(BIN)/basedpyright $(ARGS)

lock: venv
	UV=$(CURDIR)/$(BIN)/uv deploy/requirements/lock.sh $(ARGS)

bench: venv
	$(BIN)/python -m tests.bench.mesh $(ARGS)

chaos: venv
	$(BIN)/python -m tests.chaos $(ARGS)

clean:
	rm -rf .venv node_modules .demo .bench .hypothesis .pytest_cache .ruff_cache .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
