# `make demo` and `make test` set up everything they need in .venv.
PYTHON ?= python3
BIN := .venv/bin
# Two threads on two cores are slower than one as soon as a neighbour is busy.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint bench conformity clean
demo: .venv/ready
	$(BIN)/synatlas map bundled:reference --out runs/demo

test: .venv/ready lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: .venv/ready
	$(BIN)/python -m pytest benchmarks --benchmark-only --benchmark-enable

conformity: .venv/ready
	$(BIN)/python tests/conformity.py

.venv/ready: constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test]"
	touch $@

clean:
	rm -rf .venv
