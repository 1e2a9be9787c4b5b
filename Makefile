PROFILE ?= demo
COHORT ?= phantom
WORKERS ?= 2
# The first Python of a fitting version, also where only "python3" is called so.
FITS := 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'
PYTHON ?= $(firstword $(foreach name,python3.12 python3.11 python3 python,$(shell $(name) -c $(FITS) 2>/dev/null && echo $(name))))
WANTED := Python 3.11 or 3.12 is needed: apt install python3.12, or brew install python@3.12, or make PYTHON=/path/to/python3.12
VENV := .venv
BIN := $(VENV)/bin

.PHONY: book test nightly lint lab benchmark reference lock clean

# Exit status 3: all done, but some participants were left out and named.
book: $(VENV)/installed
	$(BIN)/python -m tle_utils run --profile $(PROFILE) --cohort $(COHORT) --workers $(WORKERS) || test $$? -eq 3
	$(BIN)/python -m tle_utils book --profile $(PROFILE) --cohort $(COHORT)

test: $(VENV)/installed
	sh tests/browser.sh
	$(BIN)/python -m pytest tests/unit -n 2 --dist loadscope --durations 10
	$(BIN)/python -m pytest --ignore tests/unit -n 2 --dist loadscope --no-loadscope-reorder --durations 20

# Properties that the usual tests try on some hundred examples, on thousands.
nightly: $(VENV)/installed
	$(BIN)/python -m pytest tests/unit -m nightly -n 2

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

# The results in the paper's design that the pages quote: for whoever changes what they are made from.
reference: $(VENV)/installed
	$(BIN)/python -m tle_utils run --profile paper --workers $(WORKERS)
	$(BIN)/python -m tle_utils reference

# Resolve the dependencies anew; needs uv.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras --no-annotate --no-header \
		--extra test pyproject.toml --output-file requirements.lock

$(VENV)/installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" && $(PYTHON) -c $(FITS) 2>/dev/null || { echo "$(WANTED)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	touch $@

clean:
	rm -rf _build runs $(VENV)
