PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: search test test-slow check bench report clean

# Set up once; again when what is installed changes.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

search: $(READY)   ## the main job: search NAS-Bench-201 and write report/index.html
	$(BIN)/python run_search.py experiment=quickstart
	$(BIN)/python run_report.py outputs/quickstart --out report

test: $(READY)     ## every test that is not marked slow
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow'

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow --timeout 3600

check: $(READY)    ## what CI checks besides the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)    ## speed, paired against the published way of working
	$(BIN)/python -m benchmarks

report: $(READY)   ## compare every finished run
	$(BIN)/python run_report.py $(wildcard outputs multirun) --out report
