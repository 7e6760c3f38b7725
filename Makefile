# `make help` lists the targets. Everything a target needs is made first: see packaging/bootstrap.py.
#
#   DATA=FOLDER     what `make demo` runs on, instead of the scene that comes with the repository:
#                   a folder or a bag of those that docs/reference/formats.md lists
#   EXTRAS="..."    back ends to set up as well: da3, mast3r, sam2 (PyTorch; weights are fetched by you),
#                   bags (reading and writing ROS 2 bags), sim (the simulated cell), ray (batches on a cluster),
#                   train (training the network of the masks), viewer (the page)
#   ARGS="..."      further arguments for the program behind demo, test, bench or train
#   WHEELS=FOLDER   where gpu-wheels puts wheels and bench-gpu finds them, default: wheels
#   PYTHON=PATH     Python to make the environment with
#   TORCH_INDEX=URL index to take PyTorch from, e.g. https://download.pytorch.org/whl/cu126; empty for
#                   PyPI's build. Default: the CPU build where nvidia-smi finds no GPU, else PyPI's.
#                   Read when PyTorch is first installed; to change it afterwards: make clean

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

DATA ?=
EXTRAS ?=
ARGS ?=
WHEELS ?= wheels

ifdef PYTHON
export PYTHON
endif
ifdef TORCH_INDEX
export TORCH_INDEX
endif
# What another environment's Python leaves behind would keep ours from finding its libraries.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE PYTHONHOME VIRTUAL_ENV

BOOTSTRAP = $(if $(shell command -v python3),,$(error python3 is missing; install it: apt-get install python3))$(or $(PYTHON),python3) packaging/bootstrap.py
ENTER := . .venv/setup.sh &&

# A test that hangs ends after ten minutes with the stacks of all threads, and the others go on.
BOUNDED = -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true

.PHONY: help setup dev demo demo-live test bench evaluation gpu-wheels bench-gpu fit train docs figures lint format lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: ## make or update the environment in .venv (EXTRAS="mast3r sam2": with these back ends)
	@$(BOOTSTRAP) $(addprefix --with ,$(EXTRAS))

dev: ## the environment with the tools for tests, checks and the scene generator
	@$(BOOTSTRAP) --with test --with dev

demo: setup ## click three objects over ROS 2 (DATA=FOLDER: in your own recording)
	@$(ENTER) .venv/bin/wildseg3d demo $(if $(DATA),--data "$(DATA)") $(ARGS)

demo-live: EXTRAS = sim viewer
demo-live: setup ## a simulated cell with live cameras, and a page to click objects in
	@$(ENTER) .venv/bin/wildseg3d demo-live $(ARGS)

test: ## all tests, those of the ROS layer over real DDS
	@$(BOOTSTRAP) --with test
	@$(ENTER) .venv/bin/python -m pytest test -n 2 --dist loadfile $(BOUNDED) $(ARGS)

bench: EXTRAS = mast3r sam2
bench: setup ## measure accuracy, time and memory
	@$(ENTER) .venv/bin/python -m benchmarks $(ARGS)

evaluation: ## answers in the simulated cell by poses, noise, cameras: docs/explanation/evaluation.md
	@$(BOOTSTRAP) --with docs --with sim
	@$(ENTER) .venv/bin/python -m benchmarks.evaluation $(ARGS)

gpu-wheels: ## download what bench-gpu needs beside PyTorch into WHEELS (ARGS="--python 3.12")
	@$(or $(PYTHON),python3) packaging/bench_gpu.py fetch "$(WHEELS)" $(ARGS)

bench-gpu: ## measure a GPU, in under 8 minutes; needs PyTorch and the wheels in WHEELS
	@$(or $(PYTHON),python3) packaging/bench_gpu.py run "$(WHEELS)" $(ARGS)

fit: EXTRAS = mast3r sim
fit: setup ## fit the scores of the geometric masks anew, on simulated scenes (an hour or two)
	@$(ENTER) .venv/bin/python -m fitting $(ARGS)

train: EXTRAS = train
train: setup ## train the network of the masks (ARGS="--meshes FOLDER": on your own parts, too)
	@$(ENTER) .venv/bin/wildseg3d train-masks $(ARGS)

docs: ## the documentation as a site, in out/site
	@$(BOOTSTRAP) --with docs
	@$(ENTER) .venv/bin/python docs/generate_reference.py
	@$(ENTER) .venv/bin/python -m sphinx -n -W --keep-going -q docs out/site
	@echo "python3 -m http.server --directory out/site, then open http://localhost:8000"

figures: ## all pictures and tables of the documentation (hours; goes on after a stop; ARGS=cloud_error)
	@$(BOOTSTRAP) $(addprefix --with ,docs viewer sim bags mast3r sam2)
	@$(ENTER) .venv/bin/python -m benchmarks.figures $(ARGS)

lint: dev ## style, types and spelling
	@$(ENTER) ruff check . && ruff format --check . && pyright && codespell

format: dev ## put all files into the project's layout
	@$(ENTER) ruff check --fix . && ruff format .

lock: dev ## resolve the requirement files and write their lock file (ARGS=--upgrade: anew)
	@$(ENTER) .venv/bin/python packaging/lock.py $(ARGS)

clean: ## remove the environment and all that was built
	rm -rf .venv .venv.old build install log out .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
