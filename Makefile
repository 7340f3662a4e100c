# Every target sets up what it needs in .venv; PYTHON picks the interpreter.
PYTHON ?= python3
# Processes that share the tests; each takes one core and up to 2 GiB.
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types docs format bench clean

demo: $(VENV)/.ready-plot
	$(BIN)/python examples/van_der_pol.py

test: $(VENV)/.ready-dev
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready-dev
	$(BIN)/mypy

# The API reference, as pages in build/docs; a warning is an error.
docs: $(VENV)/.ready-dev
	$(BIN)/python -W error -m pdoc --math --docformat markdown --output-directory build/docs jaxcolloc

format: $(VENV)/.ready-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.ready-bench
	$(BIN)/python bench/solve.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	touch $@
