# Two commands do everything on a fresh machine with Python 3.10+ and make: `make demo` and `make test`.
# Each sets up its own virtual environment in .venv; PYTHON and VENV may be given (`make test PYTHON=python3.12`).

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
OUT ?= demo-output
WHEEL := build/wheel
WHEEL_VENV ?= build/wheel-venv
TESTS ?= tests

BIN := $(VENV)/bin
CPP := $(wildcard src/blurlib/_engine/native/*.[ch]pp tests/native/*.cpp)
# Bytecode of what is imported is written then, not that of all of torch now: a third of the time.
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-compile

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-neighbours test-wheel check format lint types docs portable bench tables wheel clean

help:  ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 17

demo: $(VENV)/.demo  ## train, blur, evaluate, fine-tune on photographs that ship inside packages; writes $(OUT)
	$(BIN)/blurlib demo --out $(OUT)

# One thread a process: two pytest workers on two cores, and no OpenMP pool in a process that forks.
test test-all test-neighbours: export OMP_NUM_THREADS := 1
# Else each process that a test starts compiles all of torch anew, in 8 seconds.
test test-all: export PYTHONDONTWRITEBYTECODE :=
# What torch.compile writes has no vector instructions: to try out which there are takes as long.
test: export TORCHINDUCTOR_VEC_ISA_OK := 0
test: $(VENV)/.dev  ## tests and doctests, with few examples a property
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test-all: $(VENV)/.dev  ## also the slow and the exhaustive ones, with many examples a property
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "" --hypothesis-profile=thorough

# It asks the network at import otherwise.
test-neighbours: export NO_ALBUMENTATIONS_UPDATE := 1
# albumentations and AlbumentationsX have one import name: the second has an environment of its own, which finds
# everything else in the first.
test-neighbours: $(VENV)/.neighbours $(VENV)/albumentationsx/.installed  ## blurlib in the pipelines of other libraries
	@$(BIN)/python -m pytest -n $(JOBS) -m "" tests/integrations
	@$(VENV)/albumentationsx/bin/python -m pytest -m "" tests/integrations/test_albumentations.py

# The tests are those of the sdist, without its src: what they import is the wheel. What needs the records of
# benchmarks and experiments, or the workflows, which no sdist has, is skipped.
test-wheel: export OMP_NUM_THREADS := 1
test-wheel: $(VENV)/.dev  ## the tests of the sdist on the wheel that is built from it, in an environment of its own
	rm -rf $(WHEEL)
	$(BIN)/python -m build --outdir $(WHEEL) .
	test -d $(WHEEL_VENV) || $(PYTHON) -m venv $(WHEEL_VENV)
	$(WHEEL_VENV)/bin/python -m pip install --quiet --no-compile --force-reinstall --no-deps $(WHEEL)/*.whl
	$(WHEEL_VENV)/bin/python -m pip install --quiet --no-compile "$$(ls $(WHEEL)/*.whl)[dev]"
	mkdir $(WHEEL)/sdist && tar xzf $(WHEEL)/*.tar.gz -C $(WHEEL)/sdist --strip-components 1
	rm -r $(WHEEL)/sdist/src
	cd $(WHEEL)/sdist && $(abspath $(WHEEL_VENV))/bin/python -m pytest -n $(JOBS) --dist worksteal $(TESTS)

check: lint types docs test  ## everything that CI runs

format: $(VENV)/.dev  ## put the code into the house's form
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

lint: $(VENV)/.dev  ## form and likely mistakes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run -Werror $(CPP)

types: $(VENV)/.dev  ## mypy, strict
	$(BIN)/mypy

docs: $(VENV)/.dev  ## the pages, in docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

portable: $(VENV)/.dev  ## the core by other compilers, for other processors and systems, as far as they are installed
	$(BIN)/python -m pytest -m slow tests/engine/test_portability.py

bench: $(VENV)/.bench  ## time the engine against other libraries, within 25 minutes; writes records, page and table
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/pipeline.py
	$(BIN)/python benchmarks/loading.py
	$(BIN)/python benchmarks/speed_page.py
	$(BIN)/python docs/tables.py

tables: $(VENV)/.dev  ## write the result tables of README and docs from the committed records
	$(BIN)/python experiments/caltech20.py table
	$(BIN)/python experiments/demo.py
	$(BIN)/python experiments/paper_tables.py table
	$(BIN)/python experiments/camvid.py table
	$(BIN)/python experiments/deblurring.py table
	$(BIN)/python experiments/tolerance.py table
	$(BIN)/python experiments/wide.py table
	$(BIN)/python experiments/gauge.py table
	$(BIN)/python benchmarks/speed_page.py
	$(BIN)/python docs/tables.py

wheel: $(VENV)/.dev  ## build sdist and wheel in dist
	$(BIN)/python -m build --outdir dist .

clean:  ## remove what the commands above made, the environment too
	rm -rf $(VENV) build dist docs/_build $(OUT) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests docs examples benchmarks experiments -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "blurlib needs Python 3.10 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# What an installation is made of: the dependencies, the core, and which modules there are (an editable one knows
# its modules by name). The list is rewritten only when a module is added, moved or removed.
CORE := pyproject.toml CMakeLists.txt $(wildcard src/blurlib/_engine/native/*)
MODULES := build/modules.txt
$(shell mkdir -p build && find src -name '*.py' | sort | cmp -s - $(MODULES) || find src -name '*.py' | sort > $(MODULES))

# Editable, so that a change in the checkout is what runs.
$(VENV)/.demo: $(CORE) $(MODULES) | $(BIN)/python
	@echo "Setting up $(VENV): torch is large, so this takes some minutes the first time."
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: $(CORE) $(MODULES) | $(BIN)/python
	@echo "Setting up $(VENV): torch is large, so this takes some minutes the first time."
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.neighbours: $(CORE) $(MODULES) | $(BIN)/python
	@echo "Setting up $(VENV): torch is large, so this takes some minutes the first time."
	$(PIP) --editable '.[dev,neighbours]'
	@touch $@ $(VENV)/.dev $(VENV)/.demo

$(VENV)/albumentationsx/.installed: $(VENV)/.neighbours
	$(PYTHON) -m venv $(VENV)/albumentationsx
	cd $(VENV)/albumentationsx/lib/python*/site-packages && \
		$(abspath $(BIN))/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' > neighbours.pth
	$(VENV)/albumentationsx/bin/python -m pip install --disable-pip-version-check --quiet --no-compile 'albumentationsx>=2.5'
	@touch $@

# The rivals, which nothing else needs.
$(VENV)/.bench: $(CORE) $(MODULES) | $(BIN)/python
	@echo "Setting up $(VENV): torch is large, so this takes some minutes the first time."
	$(PIP) --editable '.[dev,bench]'
	@touch $@ $(VENV)/.dev $(VENV)/.demo
