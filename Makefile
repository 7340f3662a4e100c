# Every target sets up what it needs in VENV. PYTHON makes it; one that is there keeps its own.
PYTHON ?= python3
VENV ?= .venv
# The oldest Python, which has wheels of the lowest versions that pyproject.toml states.
LOWEST_PYTHON ?= python3.11
# Processes that share the tests; each takes one core and up to 2 GiB.
JOBS ?= 2
BIN := $(VENV)/bin
PYTEST := OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.PHONY: demo check test test-quick test-jax test-lowest lint types docs format bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/.ready-plot
	$(BIN)/python examples/van_der_pol.py

# For people at work: all but the slow tests.
check: lint types test-quick

test: $(VENV)/.ready-dev
	$(PYTEST)

test-quick: $(VENV)/.ready-dev
	$(PYTEST) -m "not slow"

# What hangs most on JAX's insides: jaxprs, derivatives, what is compiled when, files.
test-jax: $(VENV)/.ready-dev
	$(PYTEST) -m "not slow" $(addprefix tests/test_,casadi.py import.py load.py nlp.py pattern.py \
		pieces.py renumbered.py transcribe.py)

# The same tests with the lowest versions that pyproject.toml states.
test-lowest: build/lowest.txt
	PIP_CONSTRAINT=$< $(MAKE) test VENV=.venv-lowest PYTHON=$(LOWEST_PYTHON)

build/lowest.txt: pyproject.toml .ci/lowest.py
	mkdir -p $(@D)
	$(LOWEST_PYTHON) .ci/lowest.py > $@

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready-dev
	$(BIN)/mypy

# Guide, gallery and reference as pages in build/docs, to be read without a network. What the pages
# of the guide print and draw is taken from the last test, or they are run.
docs: $(VENV)/.ready-dev
	$(BIN)/python examples/guide/_site.py

format: $(VENV)/.ready-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.ready-bench
	$(BIN)/python bench/solve.py

clean:
	rm -rf $(VENV) .venv-* build .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	touch $@
