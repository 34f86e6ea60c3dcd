# Everything a newcomer needs: `make demo` and `make test` set up their own environment.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help demo test lint site docs slow bench clean

help:
	@echo "make demo   install, and run the main job on Ising (about 5 minutes); writes demo/report.html"
	@echo "make test   install, and run the tests (5 minutes on two cores)"
	@echo "make lint   style, types and import contracts"
	@echo "make site   build docs/ into site/, tutorials run; PART=k/n runs the k-th of n parts of them"
	@echo "make docs   the site, and each block of the README and the how-tos, each example, a typed script, and pages in a browser"
	@echo "make slow   the tests that take minutes; PART=k/n runs the k-th of n parts of them"
	@echo "make bench  figures of RESULTS.md, in parts of minutes (hours in all); PART=ising runs one: python -m benchmarks list"
	@echo "make clean  remove the environment and the demo"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.user: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --config-settings editable_mode=compat --editable '.[report,onnx]'
	@touch $@

$(VENV)/.dev: $(VENV)/.user
	$(BIN)/pip install --quiet --constraint constraints.txt --config-settings editable_mode=compat --editable '.[report,tensorboard,sbi,flow,nested,formats,onnx,dask,docs,dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/pip install --quiet --constraint constraints.txt --config-settings editable_mode=compat --editable '.[report,bench]'
	@touch $@

demo: $(VENV)/.user
	$(BIN)/physgen demo --out demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

site: $(VENV)/.dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m sphinx -b html -W --keep-going -q docs site

docs: site
	$(BIN)/python -m pytest -n auto --dist worksteal -rs -m docs

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist worksteal -m slow $(if $(PART),--part $(PART))

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks run $(PART)

clean:
	rm -rf $(VENV) demo site jupyter_execute .jupyter_cache
