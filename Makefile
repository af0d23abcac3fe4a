# `make` lists the targets. What is installed once is not installed again until pyproject.toml or constraints.txt change.
#
#   make PYTHON=python3.12 ...       the interpreter to make .venv with
#   make TORCH=2.11.0+cu128 ...      another torch than the pinned one, as pip can find it
#   make TORCH=keep ...              the torch that PYTHON already has
#   make bench BENCH=benchmarks/x.py one benchmark only

MAKEFLAGS += --no-print-directory

BIN := .venv/bin
VENV := PYTHON="$(PYTHON)" TORCH="$(TORCH)" sh tools/venv.sh
LEAN := .venv-lean/.installed
# One stamp for every choice of torch, so that a new choice is looked at and never passed over.
DEMO := .venv/.installed-demo$(TORCH)
DEV := .venv/.installed-dev$(TORCH)
PINS := pyproject.toml constraints.txt
ENGINE := .venv/.built-engine
NATIVE := $(wildcard $(addprefix src/shoestring/engine/native/,*.cpp *.h *.inl CMakeLists.txt))
# Scripts that train something, need private data or make an environment of their own are run by hand.
BENCH ?= $(filter-out benchmarks/train_% benchmarks/lsq_% benchmarks/prune_% benchmarks/magnitude_% benchmarks/points_segmentation% benchmarks/pretrain% benchmarks/reconstruct.py benchmarks/planner.py benchmarks/structured_cifar10.py benchmarks/exits_cifar10.py benchmarks/engine_deepsparse.py, \
    $(wildcard benchmarks/*.py))

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help setup engine demo test test-lean test-all lint bench clean

help: ## lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(ENGINE) ## .venv with everything that users and developers need
	@echo "Ready: .venv/bin/shoestring --help"

engine: $(ENGINE) ## builds the engine's library, as far as its sources changed

demo: $(DEMO) ## fits a real network to a budget: efficientnet_lite0.shoe and receipt.html
	@echo "Fitting EfficientNet-Lite0 to 0.5x of its latency on this machine (about four minutes) ..."
	@$(BIN)/shoestring fit efficientnet_lite0 --demo --budget "latency<=0.5x, quality>=-20pt" \
	    --without structured --rounds 0 \
	    --out efficientnet_lite0.shoe --html receipt.html || { code=$$?; [ $$code -eq 3 ] || exit $$code; \
	    echo "The budget was not met here, or the machine was too noisy to say; the receipt above is what was measured."; }

test: $(ENGINE) ## the quick tests (minutes), a file of them on each core
	@$(BIN)/python -m pytest -n auto --dist loadfile

test-lean: $(ENGINE) $(LEAN) ## runs an artifact in an environment that has only the base install
	@SHOESTRING_LEAN_PYTHON="$(CURDIR)/.venv-lean/bin/python" $(BIN)/python -m pytest tests/test_without_torch.py

test-all: $(ENGINE) $(LEAN) ## every test, the slow ones too
	@SHOESTRING_LEAN_PYTHON="$(CURDIR)/.venv-lean/bin/python" $(BIN)/python -m pytest -n auto --dist loadfile -m ""

lint: $(DEV) ## style, types and who may import whom
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

bench: $(ENGINE) ## the benchmarks behind the numbers in the documentation
	@[ -n "$(BENCH)" ] || echo "No benchmarks yet."
	@failed=""; for script in $(BENCH); do echo "== $$script"; $(BIN)/python $$script || failed="$$failed $$script"; done; \
	    [ -z "$$failed" ] || { echo "failed:$$failed"; exit 1; }

clean: ## removes the environments, the caches and what the demo wrote
	@rm -rf .venv .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@rm -f efficientnet_lite0.shoe receipt.html
	@git clean -fdqX src/shoestring/engine
	@find src tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} +

$(DEMO): $(PINS)
	@$(VENV) .venv fit,demo
	@touch $@

$(DEV): $(PINS)
	@SKBUILD_WHEEL_CMAKE=false $(VENV) .venv fit,demo,dev
	@touch $(DEMO) $@

# What pip would build from nothing each time. Without a compiler there is no stamp, and the next `make` looks again.
$(ENGINE): $(NATIVE) | $(DEV)
	@sh tools/engine.sh $@

$(LEAN): $(PINS)
	@SKBUILD_WHEEL_CMAKE=false TORCH= PYTHON="$(PYTHON)" sh tools/venv.sh .venv-lean
	@touch $@
