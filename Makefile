# Every target works on a fresh clone: it first makes .venv and installs into it (Python >= 3.11 found as `python3`,
# or `make PYTHON=/path/to/python ...`).
PYTHON ?= python3
BIN := .venv/bin
SOURCES := m3pc_ray actors tune tests benchmarks configs setup.py

.PHONY: setup demo compare-env manipulation-env browser test test-all test-faults test-manipulation format lint type build
.DEFAULT_GOAL := setup

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

setup: .venv/.development

# What the product needs, and no more: enough for the demo.
.venv/.product: pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "make: Python 3.11 or newer is needed; name one with make PYTHON=/path/to/python" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e .
	touch $@

# With what tests and checks need.
.venv/.development: .venv/.product
	$(PIP) -e '.[dev]'
	touch $@

# What `m3pc compare` runs d3rlpy in, which asks for another Gymnasium than ours.
compare-env: .venv-compare/.made

.venv-compare/.made: constraints-compare.txt
	test -x .venv-compare/bin/python || $(PYTHON) -m venv .venv-compare
	.venv-compare/bin/python -m pip install --quiet --disable-pip-version-check -r constraints-compare.txt
	touch $@

# Everything of ours beside robosuite, which asks for an older MuJoCo.
manipulation-env: .venv-manipulation/.made

.venv-manipulation/.made: pyproject.toml setup.py constraints-manipulation.txt
	test -x .venv-manipulation/bin/python || $(PYTHON) -m venv .venv-manipulation
	.venv-manipulation/bin/python -m pip install --quiet --disable-pip-version-check -r constraints-manipulation.txt -e .
	.venv-manipulation/bin/python -m pip install --quiet --disable-pip-version-check --no-deps robosuite==1.5.2
	touch $@

demo: .venv/.product
	$(BIN)/m3pc demo

lint: setup
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports

type: setup
	$(BIN)/mypy
	$(BIN)/mypy benchmarks

# Debian's Chromium, for the tests that open the report page; where it cannot be installed these are skipped.
browser:
	@if command -v chromium || command -v chromium-browser; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo "make: no Chromium, and only root with apt-get can install it here: tests of the report page are skipped" >&2; \
		exit 0; \
	fi; \
	apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium

# In two processes: half of the time is waiting for processes that tests start. `.venv/bin/pytest` runs in one.
test: lint type
	$(BIN)/pytest --numprocesses 2 --dist loadgroup -m "not slow and not gpu"

test-all: lint type
	$(BIN)/pytest

# Every fault that is injected on purpose; the quick ones are in `make test` too.
test-faults: setup
	$(BIN)/pytest -m "faults and not gpu"

# What needs robosuite, and what reads its data, in the environment that has it.
test-manipulation: manipulation-env
	.venv-manipulation/bin/python -m pytest -m "" tests/environments/manipulation tests/trajectories/test_robomimic.py

format: setup
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

# The wheel, installed and imported in an environment that has never seen this folder.
build: setup
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w dist .
	$(PYTHON) -m venv build/venv
	build/venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/m3pc_ray-*.whl
	cd build && venv/bin/python -c "import m3pc_ray, actors, tune; print(m3pc_ray.__version__, m3pc_ray.__file__)"
	cd build && venv/bin/m3pc --version
