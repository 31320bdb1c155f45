# Two commands are enough: `make demo` and `make test`. Everything goes into .venv; nothing needs root.

PYTHON ?= python3
# For pip alone, for example an index with CPU-only builds of torch (docs/install.md).
PIP_ARGS ?=
# `make demo EXIT=1` ends by itself, with the right exit code.
EXIT ?=
# The model of `make demo`: `make demo MODEL=base` is for photographs (docs/local-stack.md).
MODEL ?=
# Passed on to `dropline demo`.
DEMO_ARGS ?=
# Passed on to pytest.
PYTEST_ARGS ?=
# How many processes run the tests, but for the acceptance tests, which count statements and requests. 0: no further
# process, for a debugger.
PYTEST_PROCESSES ?= 2
# Of `make cloud-check`, `make images` and `make first-caption`: the project and its region in Google Cloud (docs/deploy.md).
PROJECT ?=
REGION ?=
VERSION ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# Of `make images`: more substitutions of cloudbuild.yaml; the service account of the builds; the buckets of their
# sources and of Terraform's state; the root to connect to that state. tools/cloud_images.sh has the defaults.
BUILD_ARGS ?=
BUILD_ACCOUNT ?=
BUILDS_BUCKET ?=
STATE_BUCKET ?=
TERRAFORM_ROOT ?= terraform/examples/minimal
# Of `make first-caption`.
BUCKET ?= $(if $(PROJECT),$(PROJECT)-dropline-drops)
FILE ?=
# Passed on to `dropline cloud check`.
CHECK_ARGS ?=
# Passed on to the benchmark.
BENCH_ARGS ?=
# Passed on to the soak, for example `--short` or `--seed 7`.
CHAOS_ARGS ?=
# Passed on to the fuzz command, for example `--count 100000 --seed 7`.
FUZZ_ARGS ?=

# A process with few tests left takes tests from another one.
PARALLEL := --numprocesses $(PYTEST_PROCESSES) --dist worksteal

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# `make demo` in a new checkout installs no tools of developers; `make install` adds them later.
DEMO_STAMP := $(VENV)/.installed-demo
# `make cloud-check` in a new checkout installs the command line alone.
CLI_STAMP := $(VENV)/.installed-cli

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format types arrows unit terraform integration acceptance bench chaos fuzz constraints settings-page cli-page images-page terraform-pages cost-pages cloud-check images first-caption clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

EXTRA_$(STAMP) := dev
EXTRA_$(DEMO_STAMP) := demo
EXTRA_$(CLI_STAMP) := cli

install: $(STAMP) ## set up .venv, nothing else

$(STAMP) $(DEMO_STAMP) $(CLI_STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Dropline needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) -V 2>&1); try: make PYTHON=python3.12" >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_ARGS) --constraint constraints.txt --editable '.[$(EXTRA_$@)]'
	@touch $@

demo: $(if $(wildcard $(STAMP)),$(STAMP),$(DEMO_STAMP)) ## start the whole stack, caption sample images, show the rows; Ctrl-C ends it
	$(BIN)/dropline demo$(if $(filter-out 0,$(EXIT)), --exit)$(if $(MODEL), --model $(MODEL)) $(DEMO_ARGS)

cloud-check: $(or $(wildcard $(STAMP)),$(wildcard $(DEMO_STAMP)),$(CLI_STAMP)) ## what a project in Google Cloud lacks: PROJECT=… REGION=…
	$(BIN)/dropline cloud check --project '$(PROJECT)' --region '$(REGION)' $(CHECK_ARGS)

images: ## build and push the container images with Cloud Build: PROJECT=… REGION=…
	@PROJECT='$(PROJECT)' REGION='$(REGION)' VERSION='$(VERSION)' BUILD_ARGS='$(BUILD_ARGS)' BUILD_ACCOUNT='$(BUILD_ACCOUNT)' \
	  BUILDS_BUCKET='$(BUILDS_BUCKET)' STATE_BUCKET='$(STATE_BUCKET)' TERRAFORM_ROOT='$(TERRAFORM_ROOT)' tools/cloud_images.sh

first-caption: ## upload an image to a deployment and wait for its caption: PROJECT=… FILE=…
	@BUCKET='$(BUCKET)' FILE='$(FILE)' tools/first_caption.sh

test: lint types arrows unit terraform integration acceptance ## everything

lint: $(STAMP) ## style
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(STAMP) ## mypy --strict
	$(BIN)/mypy

arrows: $(STAMP) ## which room may import which
	$(BIN)/lint-imports

unit: $(STAMP) ## tests without a socket
	$(BIN)/pytest tests/unit $(PARALLEL) $(PYTEST_ARGS)

terraform: $(STAMP) ## checks of terraform/ without a cloud; they skip where terraform is not installed
	$(BIN)/pytest tests/terraform $(PARALLEL) $(PYTEST_ARGS)

integration: $(STAMP) ## tests against real services
	$(BIN)/pytest tests/integration $(PARALLEL) $(PYTEST_ARGS)

acceptance: $(STAMP) ## tests of the whole stack, as real processes
	$(BIN)/pytest tests/acceptance $(PYTEST_ARGS)

bench: $(STAMP) ## what the path of an event costs, without a model (docs/performance.md)
	$(BIN)/python -m benchmarks.event_path $(BENCH_ARGS)

chaos: $(STAMP) ## thousands of drops while everything is killed in turn: what is lost, twice or stuck?
	$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

fuzz: $(STAMP) ## decode damaged copies of the image corpus: no crash, no foreign error
	$(BIN)/python -m tests.corpus.fuzz $(FUZZ_ARGS)

format: $(STAMP) ## rewrite the code in the project's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

constraints: $(STAMP) ## write down the versions of what is installed
	$(BIN)/python -m tools.pins > constraints.new
	mv constraints.new constraints.txt
	@touch $(STAMP)

settings-page: $(STAMP) ## write docs/settings.md anew
	$(BIN)/python -m tools.settings_page > docs/settings.new
	mv docs/settings.new docs/settings.md

cli-page: $(STAMP) ## write the tables of docs/cli.md anew
	$(BIN)/python -m tools.cli_page

images-page: $(STAMP) ## write docs/images.md anew
	$(BIN)/python -m tools.images_page > docs/images.new
	mv docs/images.new docs/images.md

terraform-pages: $(STAMP) ## write the READMEs under terraform/ anew
	$(BIN)/python -m tools.terraform_pages

cost-pages: $(STAMP) ## write the tables of docs/costs.md
	$(BIN)/python -m tools.cloud_costs --page docs/costs.md

clean: ## remove .venv, caches and the local stack's state
	rm -rf $(VENV) .local .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
