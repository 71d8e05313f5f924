# Two commands do all: `make run` and `make test`. Both install what is missing first.
VENV ?= .venv
PYTHON := $(VENV)/bin/python
CONFIG ?= adult
IMAGE ?= keras-dimgrow
VARIANT ?= cpu
TARGET ?= nodes
# Test files side by side, in the order of pyproject.toml: the longest first.
PARALLEL := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help setup run test test-slow test-library check lint types imports bench lock image clean

help: ## What the targets do.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## Installs what is missing into .venv; quick when nothing is.
	@VENV=$(VENV) bash scripts/setup.sh

run: setup ## Runs the whole pipeline on the shipped sample (CONFIG=adult).
	@$(PYTHON) -m pipeline run --config $(CONFIG)

test: setup ## All tests but the slow ones.
	@$(PYTHON) -m pytest $(PARALLEL) -m "not slow"

test-slow: setup ## The slow tests: clusters imitated on this machine, guides and examples.
	@$(PYTHON) -m pytest $(PARALLEL) -m slow

test-library: ## The library's tests alone, where TFX cannot be installed.
	@SETUP=library VENV=$(VENV) bash scripts/setup.sh
	@$(PYTHON) -m pytest $(PARALLEL) -m "not slow" tests/keras_dimgrow

check: lint types imports test test-slow ## Everything that CI asks of the sources.

lint: setup ## ruff: style and formatting.
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

types: setup ## mypy.
	@$(VENV)/bin/mypy

imports: setup ## The import law: pipeline > components > keras_dimgrow, serving a leaf.
	@$(VENV)/bin/lint-imports

bench: setup ## All benchmarks (some hours); each prints a table and writes JSON to runs/benchmarks/.
	@for name in search_step search_memory search_decisions lazy_adam_quality serving_speed storage_quality scaling data_path \
		fiited fiited_quality gpu; do \
		$(PYTHON) benchmarks/$$name.py || exit 1; done

lock: ## Recompiles requirements/*.txt (needs uv).
	@bash scripts/lock.sh

image: ## Builds the container image IMAGE=name:tag (VARIANT=cpu or gpu, TARGET=nodes or worker; needs Docker).
	docker build --build-arg VARIANT=$(VARIANT) --target $(TARGET) --tag $(IMAGE) .

clean: ## Removes what runs and builds left.
	rm -rf runs build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
