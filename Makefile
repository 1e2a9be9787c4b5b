PROFILE ?= demo
COHORT ?= phantom
WORKERS ?= 2
PYTHON ?= $(shell command -v python3.12 >/dev/null 2>&1 && python3.12 -c '' 2>/dev/null && echo python3.12 || echo python3.11)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: book test lint lab benchmark lock clean

# Exit status 3: all done, but some participants were left out and named.
book: $(VENV)/installed
	$(BIN)/python -m tle_utils run --profile $(PROFILE) --cohort $(COHORT) --workers $(WORKERS) || test $$? -eq 3
	$(BIN)/python -m tle_utils book --profile $(PROFILE) --cohort $(COHORT)

test: $(VENV)/installed
	sh tests/browser.sh
	$(BIN)/python -m pytest tests/unit -n 2 --dist loadscope --durations 10
	$(BIN)/python -m pytest --ignore tests/unit -n 2 --dist loadscope --no-loadscope-reorder --durations 20

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --verify notebooks/*.ipynb
	$(BIN)/lint-imports

lab: $(VENV)/installed
	$(BIN)/jupyter lab --notebook-dir notebooks

# Speed and quality beside their targets, on the real scans of TLE_SHARED_DATA and on phantoms.
benchmark: $(VENV)/installed
	$(BIN)/python -m benchmarks preprocessing --workers $(WORKERS)
	$(BIN)/python -m benchmarks training --workers $(WORKERS)

# Resolve the dependencies anew; needs uv.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras --no-annotate --no-header \
		--extra test pyproject.toml --output-file requirements.lock

$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	touch $@

clean:
	rm -rf _build runs $(VENV)
