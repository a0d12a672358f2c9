# The two commands of the README, and the few a contributor needs. `make` alone lists them.
SHELL := /bin/sh
PYTHON ?= python3
DEMO_DIR ?= demo-workspace
LOCALE := nlp_skills/locale

# uv from PATH where it works, else one of our own in .uv/ (see that rule).
UV = $(shell uv --version >/dev/null 2>&1 && command -v uv || echo "$(CURDIR)/.uv/bin/uv")
RUN = "$(UV)" run --frozen --no-sync
# One more than there are cores, four at most: tests wait for servers and processes a quarter of their time.
WORKERS = $(shell cores=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ $$cores -lt 4 ] && echo $$((cores + 1)) || echo 4)

.PHONY: help demo test elsewhere lint messages schemas knowledge pins docs docs-reference bench clean uv
.DEFAULT_GOAL := help

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: uv ## Fine-tune a real model on real reviews, twice, and compare the two
	"$(UV)" sync --frozen --no-dev --inexact --extra demo
	$(RUN) nlp-skills demo --dir $(DEMO_DIR)

test: uv ## Install everything, then lint and run every test
	"$(UV)" sync --frozen --all-extras
	$(MAKE) lint
	$(RUN) pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: uv ## ruff, its formatter and mypy
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy

messages: uv ## Collect the messages, update the Chinese catalogue and compile it
	@mkdir -p build
	$(RUN) pybabel -q extract -F babel.cfg --no-default-keywords -k _ -k N_ --no-location --sort-output \
		--project nlp-skills --copyright-holder "the nlp-skills authors" -o build/nlp_skills.pot nlp_skills
	$(RUN) pybabel -q update -D nlp_skills -i build/nlp_skills.pot -d $(LOCALE) -l zh_TW --init-missing \
		--no-fuzzy-matching --ignore-obsolete --ignore-pot-creation-date
	$(RUN) pybabel -q compile -D nlp_skills -d $(LOCALE) --statistics

schemas: uv ## Write schemas/*.schema.json from the documents' models
	$(RUN) python -m nlp_skills.schema.export schemas

knowledge: uv ## Fill the tables of the knowledge documents and copy them for the skill
	$(RUN) python -m nlp_skills.knowledge.write skills/llm-knowledge/references

pins: uv ## Write what servers install (machine/pins.txt) from uv.lock
	@mkdir -p build
	$(RUN) python nlp_skills/machine/pins.py uv.lock > build/pins.txt
	@mv build/pins.txt nlp_skills/machine/pins.txt

docs: uv ## Build the documentation in both languages, into build/site; needs no network
	"$(UV)" sync --frozen --inexact --group docs
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --config-file mkdocs.zh-TW.yml
	@echo "open build/site/index.html"

docs-reference: uv ## Write the reference's pages as Markdown, into build/reference
	$(RUN) python docs/make_reference.py build/reference

bench: uv ## Run every benchmark; each prints a table and one line of JSON
	@for file in benchmarks/*.py; do echo "== $$file"; $(RUN) python "$$file" || [ $$? -eq 3 ] || exit 1; done

clean: ## Remove what the targets above made (the demo's workspace and the environments too)
	rm -rf .venv .uv $(DEMO_DIR) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find nlp_skills tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

uv: # uv, fetched through pip when PATH has none: into a virtual environment, or beside it where venv is not installed
	@if ! "$(UV)" --version >/dev/null 2>&1; then \
		echo "uv is not on PATH: fetching it into .uv/"; \
		{ $(PYTHON) -m venv .uv >/dev/null 2>&1 && .uv/bin/python -m pip install -q uv; } \
		|| { rm -rf .uv && $(PYTHON) -m pip install -q --target .uv uv; } \
		|| { echo "needs pip or venv: install python3-venv, or uv itself" >&2; exit 3; }; \
	fi
