# `make` lists what there is.

.DEFAULT_GOAL := help
.PHONY: help setup demo notebook jobs test test-unit test-acceptance test-all lint lock reference clean deploy undeploy images-check

bin := .venv/bin

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## Make .venv: the locked packages and Horovod (the first time on a machine: minutes)
	@setup/environment.sh

demo: setup ## Run the example job: New York's flights, from raw CSV to a registered model
	$(bin)/farandole run jobs/flights/job.yaml

notebook: setup ## Open the first notebook in JupyterLab; installs it the first time
	$(bin)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock "farandole[notebook]"
	$(bin)/jupyter lab notebooks/01_prepare_flights.ipynb

jobs: setup ## Run all example jobs for three seeds and compare them with their bars: a table
	$(bin)/python jobs/measure.py

test: setup ## Run unit and integration tests (15 minutes); PYTEST_ARGS="-k order -x" narrows them
	$(bin)/python -m pytest -n 2 --dist worksteal --cov --cov-report term:skip-covered $(if $(PYTEST_ARGS),--cov-fail-under=0) tests/unit tests/integration $(PYTEST_ARGS)

test-unit: setup ## Run the unit tests alone (3 minutes)
	$(bin)/python -m pytest -n 2 --dist worksteal tests/unit $(PYTEST_ARGS)

test-acceptance: setup ## Run benchmarks, chaos, hosts, documents, whole jobs (hours); ACCEPTANCE_ARGS="--minutes 30" limits it
	$(bin)/python -m tests.acceptance $(ACCEPTANCE_ARGS)

test-all: test test-acceptance ## Run every test

lint: setup ## Check style, types, words, and that modules import only from below
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/mypy
	$(bin)/lint-imports --no-logo --no-cache
	$(bin)/python setup/check_words.py

deploy: ## Deploy the services to the cluster of kubectl's context: make deploy OVERLAY=minimal (k8s/README.md)
	@k8s/deploy.sh $(OVERLAY)

undeploy: ## Remove the services; their data stay, except with PURGE=1
	@k8s/undeploy.sh $(OVERLAY) $(if $(filter 1,$(PURGE)),--purge)

images-check: ## Build every image of k8s/images with buildah, and check its content
	@k8s/images/check.sh $(IMAGES)

lock: setup ## Write requirements.lock anew; LOCK_ARGS=--upgrade renews versions within the ranges of pyproject.toml
	$(bin)/python setup/lock.py $(LOCK_ARGS)

reference: setup ## Write docs/job_file.md and jobs/job.schema.json from the schema
	$(bin)/farandole schema > jobs/job.schema.json
	$(bin)/python setup/job_file_reference.py

clean: ## Remove .venv and everything the tools have built and cached here
	rm -rf .venv build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache platform/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
