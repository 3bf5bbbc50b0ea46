# make demo       predict and train eight agents on digits, and lay one over the other
# make test       the tests, but for those that take longest; two at a time, one thread of LAPACK each
# make test-slow  those (PART=1/16: every sixteenth); CI runs a sixteenth of them, by turns
# make matrix     the tests on each of PYTHONS, in environments of their own
# make lint       style and formatting
# make docs       the documentation, into docs/site; `ntkdyn docs` opens it
# make fuzz       10,000 malformed inputs at every door, and the table of what came of them
# make mutants    400 places of the code changed, and the table of those that no test sees (hours)
# make lock       requirements.lock anew, from pyproject.toml

PYTHON ?= python3
PYTHONS ?= python3.11 python3.12 python3.13
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready
# all but torch, whose builds differ by device and take gigabytes: tests that need it are skipped
EXTRAS = --extra bounds --extra cluster --extra docs --extra teach --extra test --extra dev

.PHONY: demo test test-slow matrix lint docs fuzz mutants lock

demo: $(READY)
	$(BIN)/ntkdyn demo

test: $(READY)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-slow: $(READY)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m slow $(if $(PART),--part $(PART))

matrix:
	for each in $(PYTHONS); do $(MAKE) test PYTHON=$$each VENV=.venv-$$(basename $$each) || exit 1; done

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -P -m mkdocs build --quiet --config-file docs/mkdocs.yml

fuzz: $(READY)
	OPENBLAS_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m fuzz --table analysis/results/fuzz.md

mutants: $(READY)
	OPENBLAS_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m mutants --table analysis/results/mutants.md

lock: $(READY)
	$(BIN)/uv pip compile pyproject.toml $(EXTRAS) --universal --python-version 3.11 \
	  --generate-hashes --no-header --upgrade --output-file requirements.lock

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "ntkdyn needs Python 3.11, 3.12 or 3.13")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)
