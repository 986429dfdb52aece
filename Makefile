# `make demo` and `make test` set everything up; they need Python 3.11 or later, make and the package registry.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
RUNTIME := $(VENV)/.runtime-stamp
DEV := $(VENV)/.dev-stamp
BENCH_VENV := .venv-bench
BENCH := $(BENCH_VENV)/.stamp
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test kafka chaos lint audit fuzz bench recovery soak lock clean

help: ## show this
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo: $(RUNTIME) ## broker, store, worker and labelled traffic; ARGS="--duration 20 --json" passes arguments on
	@$(BIN)/sessionwatch demo $(ARGS)

test: $(DEV) ## all tests that need no Java, a file at a time on each core, on four at most
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)

kafka: $(DEV) ## the tests on Apache Kafka; needs Java 17 and Maven
	$(BIN)/pytest -m kafka $(ARGS)

chaos: $(DEV) ## kills, outages and poison against a run left alone, on Apache Kafka; ARGS="--short --only kill"
	$(BIN)/python -m tests.chaos $(ARGS)

lint: $(DEV) ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

audit: $(DEV) ## known vulnerabilities of the locked packages, where an advisory service is reached
	$(BIN)/python .ci/audit.py

fuzz: $(DEV) ## a million mutated records through decoding and pipeline; ARGS="--inputs 10000"
	$(BIN)/python -m tests.fuzz $(ARGS)

bench: $(BENCH) ## the worker beside its peers, as JSON; ARGS="--only latency --contestants sessionwatch"
	$(BENCH_VENV)/bin/python -m bench.run $(ARGS)

recovery: $(DEV) ## seconds to recover a million sessions from the changelog, as JSON
	$(BIN)/python -m bench.recovery $(ARGS)

soak: $(DEV) ## ten minutes at 70% of full speed on Apache Kafka: memory and lag, as JSON; ARGS="--svg docs/soak.svg"
	$(BIN)/python -m bench.soak $(ARGS)

lock: $(DEV) ## resolve the pinned ranges anew
	$(BIN)/python -m pip --quiet install uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--extra embedded --extra rocksdb --group build pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--extra embedded --extra rocksdb --group build --group dev pyproject.toml -o requirements-dev.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--extra rocksdb --constraint requirements.lock pyproject.toml -o requirements-worker.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--group build --constraint requirements.lock -o requirements-build.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--extra embedded --group build --group bench pyproject.toml -o requirements-bench.lock

clean: ## remove the environment and what tools cache
	rm -rf $(VENV) $(BENCH_VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis tests/kafka/target
	rm -rf bench/peers/kafka-streams/target

$(RUNTIME): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=...")'
	@echo "setting up $(VENV), a minute or two" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes -r requirements.lock >&2
	@$(PIP) install --no-deps --no-build-isolation -e . >&2
	@touch $@

$(BENCH): pyproject.toml requirements-bench.lock
	@echo "setting up $(BENCH_VENV), a minute or two" >&2
	@test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	@$(BENCH_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements-bench.lock >&2
	@$(BENCH_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation -e . >&2
	@touch $@

# pySigma's ClickHouse backend says it needs Python 3.13; nothing in it does, and the tests run it on this one.
$(DEV): $(RUNTIME) requirements-dev.lock requirements-sigma.lock
	@$(PIP) install --require-hashes -r requirements-dev.lock >&2
	@$(PIP) install --require-hashes --no-deps --ignore-requires-python -r requirements-sigma.lock >&2
	@touch $@
