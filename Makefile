# The commands of the house.  `make demo` and `make test` set up all they need by themselves.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
RECIPES := $(VENV)/.recipes
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: demo test recipes lint bench torture mutants lock clean

demo: $(RUNTIME)  ## a push, tests, the message, one deploy stopped and one done, live
	$(BIN)/leeroy demo

test: $(DEV) $(RECIPES)  ## lint and every test; each example pipeline from a push to its target
	@$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -q -n 3

lint: $(DEV)
	$(BIN)/ruff check -q .
	$(BIN)/ruff format -q --check .
	$(BIN)/mypy leeroy
	PYTHONPATH=. $(BIN)/lint-imports --no-cache | tail -n 3

bench: $(DEV)  ## speeds, each as a ratio to a limit measured in the same run
	$(BIN)/python -m bench

torture: $(DEV)  ## the long storms and soaks
	LEEROY_TORTURE=1 $(BIN)/python -m pytest -q --timeout 3600

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): requirements/runtime.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) install --require-hashes -r requirements/runtime.txt -r requirements/build.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@

$(DEV): requirements/dev.txt $(RUNTIME)
	$(PIP) install --require-hashes -r requirements/dev.txt
	touch $@

# The wheels are for the venvs that the example pipelines make in the tests: no network then.
$(RECIPES): requirements/recipes.txt $(DEV)
	$(PIP) install --require-hashes -r requirements/recipes.txt
	$(PIP) download --no-deps --require-hashes -d $(VENV)/wheels -r requirements/runtime.txt
	$(PIP) download --no-deps --require-hashes -d $(VENV)/wheels -r requirements/recipes.txt
	touch $@

recipes: $(RECIPES)  ## each example pipeline with its rollback and its misfortunes, as in .ci/run
	LEEROY_TEST_RECIPES=1 $(BIN)/python -m pytest -q -n 3 tests/recipes

mutants: $(DEV)  ## errors put into a copy of the code, each caught by a named test
	$(BIN)/python -m tests.mutants

lock:  ## new versions and hashes, without addresses
	for part in build runtime dev recipes; do uv pip compile --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-annotate --no-header -q requirements/$$part.in -o requirements/$$part.txt; done

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
