# Every target sets up what it needs: `make demo` and `make test` work on a machine with Python 3.11 or 3.12 and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# TFOD's own metadata asks for a second OpenCV and for tensorflow-io; it needs neither, so it goes in without them.
TFOD := tf-models-research-object-detection==2.8.0.post1

export TF_CPP_MIN_LOG_LEVEL ?= 3
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo demo-detect test test-slow test-tfod check bench format clean

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/ -/'

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v in ((3, 11), (3, 12)) else "tfllv needs Python 3.11 or 3.12; found %d.%d. Call: make PYTHON=python3.11" % v)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -r requirements.txt
	$(BIN)/python -m pip install -q --no-deps $(TFOD)
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## enhance the bundled photographs with every method; writes runs/demo/index.html
	$(BIN)/python tools/demo.py

demo-detect: $(STAMP) ## train, evaluate, export and run a detector on the bundled photographs; writes runs/demo_detect/index.html
	$(BIN)/python tools/demo_detect.py

check: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check ## the whole fast suite (12 minutes at most on 2 cores)
	$(BIN)/python -m pytest

test-slow: $(STAMP) ## the tests that need minutes each
	$(BIN)/python -m pytest -m slow

test-tfod: $(STAMP) ## the TF Object Detection API's own tests, on this TensorFlow
	$(BIN)/python tools/run_tfod_tests.py

bench: $(STAMP) ## measure the figures of the README; writes runs/bench/*.json
	$(BIN)/python tools/benchmark.py

format: $(STAMP) ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what the other targets made
	rm -rf $(VENV) runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
