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
	@echo "make bench  timings and surrogates beside other packages and exact answers (hours)"
	@echo "make clean  remove the environment and the demo"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.user: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --config-settings editable_mode=compat --editable '.[report]'
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
	$(BIN)/python benchmarks/ising.py
	$(BIN)/python benchmarks/shower.py
	$(BIN)/python benchmarks/fields.py
	$(BIN)/python -m benchmarks.field_surrogates
	$(BIN)/python -m benchmarks.phi4_surrogates
	$(BIN)/python -m benchmarks.families
	$(BIN)/python benchmarks/rbm.py speed
	$(BIN)/python benchmarks/rbm.py designs
	$(BIN)/python benchmarks/diffusion.py
	$(BIN)/python benchmarks/onnx_speed.py
	$(BIN)/python -m benchmarks.posterior_ising
	$(BIN)/python -m benchmarks.rounds
	$(BIN)/python benchmarks/ranks.py
	$(BIN)/python -m benchmarks.calibration
	$(BIN)/python -m benchmarks.formats --megabytes 100
	$(BIN)/python -m benchmarks.posterior_shower
	$(BIN)/python -m benchmarks.shower_surrogates
	$(BIN)/python -m benchmarks.hard_showers
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.restoration
	$(BIN)/python -m benchmarks.scores
	$(BIN)/python -m benchmarks.bounds

clean:
	rm -rf $(VENV) demo site jupyter_execute .jupyter_cache
