# `make demo` and `make test` work on a fresh machine: they need python3 (3.11 or later), make and the network.
.DELETE_ON_ERROR:
.PHONY: demo test lint install lock clean

BIN := .venv/bin
PYTHON := $(BIN)/python
MLFLOW_PORT ?= 5000
PORT ?= 7860

demo: install
	@$(PYTHON) -m demo --port $(PORT) --mlflow-ui $(MLFLOW_PORT) --dry-run
	@$(PYTHON) -m trainer quickstart
	@exec $(PYTHON) -m demo --port $(PORT) --mlflow-ui $(MLFLOW_PORT)

test: install lint
	$(PYTHON) -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: .venv/installed

# Compiled here once: a training starts a dozen processes, and where Python may not write each would compile anew
.venv/installed: requirements.lock pyproject.toml
	@python3 -c 'import sys; sys.version_info >= (3, 11) or sys.exit("python3 is %s; degrid needs 3.11 or later" % sys.version.split()[0])'
	@python3 -m venv .venv || { echo 'python3 has no venv module; on Debian and Ubuntu: apt-get install python3-venv'; exit 2; }
	$(BIN)/pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(PYTHON) --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(PYTHON) --no-deps --editable .
	@touch $@

# After a change of dependencies in pyproject.toml
lock: install
	$(BIN)/uv pip compile pyproject.toml --extra test --universal --python-version 3.11 --generate-hashes --no-emit-index-url -o requirements.lock

clean:
	rm -rf .venv build *.egg-info
