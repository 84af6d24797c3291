# VIBE AI. `make` alone says what there is.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -ec
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

PYTHON ?= python3
NPM := npx --yes npm@10
BIN := .venv/bin
ARGS ?=

# Each part writes its lines with its name before them, so that two of them can work side by side.
named = 2>&1 | sed -u 's/^/  $(1) | /'
web_sources := $(shell find frontend -path frontend/node_modules -prune -o -path frontend/.next -prune -o -path frontend/out -prune \
	-o -path frontend/e2e -prune -o -type f \( -path 'frontend/src/*' -o -path 'frontend/public/*' -o -name '*.mjs' -o -name '*.config.ts' \) \
	! -name '*.test.*' -print 2>/dev/null)

##@ Use it
up: ready ## start everything and print one address (ARGS="--port 9000")
	@exec $(BIN)/vibe up $(ARGS)

run: ready ## send a message to an agent: make run MESSAGE="What can you do?"
	@exec $(BIN)/vibe run "$(MESSAGE)" $(ARGS)

doctor: ready ## say what works on this machine, and how to mend what does not
	@exec $(BIN)/vibe doctor

backup: ready ## put all data into one file: make backup FILE=vibe.backup
	@exec $(BIN)/vibe backup "$(or $(FILE),vibe-$(shell date +%Y%m%d-%H%M%S).backup)"

restore: ready ## bring a backup back: make restore FILE=vibe.backup
	@exec $(BIN)/vibe restore "$(FILE)" $(ARGS)

##@ Work on it
test: ready-to-test ## everything: lint, types, import rules, front end, the suite, the browser
	@scripts/test

check: ready-to-test ## lint, types and import rules alone
	@scripts/test check

bench: ready-to-test ## measure what the platform adds, against a bare loop in the same run
	@exec $(BIN)/python -m benchmarks $(ARGS)

generate: ready-to-test ## write what is generated: .env.example, the OpenAPI file, the typed client
	@$(BIN)/vibe env --write && $(BIN)/vibe openapi && cd frontend && npm run --silent api

lock: ## resolve requirements/*.in again into files with hashes
	@scripts/lock

clean: ## remove what was built here (data stay)
	@rm -rf .venv .make frontend/node_modules frontend/.next frontend/out .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

help: ## this list
	@awk 'BEGIN {FS = ":.*## "; print "VIBE AI. Usage: make <target>"} /^##@/ {print "\n" substr($$0, 5)} \
	/^[a-z-]+:.*## / {printf "  \033[1m%-10s\033[0m %s\n", $$1, $$2}' Makefile

# How things come to be. A stamp in .make/ says that a part is as its sources want it; a later start skips it.
ready:
	@scripts/packages product
	@$(MAKE) -s -j2 .make/python .make/web

ready-to-test:
	@scripts/packages product tests
	@$(MAKE) -s -j2 .make/python-tests .make/web-tests

.make/python: requirements/base.txt scripts/link
	@mkdir -p .make
	@echo "Python packages"
	@{ $(PYTHON) -m venv --without-pip .venv && \
	   $(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check install --quiet --require-hashes -r requirements/base.txt && \
	   $(BIN)/python scripts/link; } $(call named,python)
	@touch $@

.make/python-tests: .make/python requirements/test.txt
	@$(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check install --quiet --require-hashes -r requirements/test.txt $(call named,python)
	@touch $@

# What builds the pages is a dependency, what tests them a devDependency.
.make/node: frontend/package.json frontend/package-lock.json
	@mkdir -p .make
	@echo "Node packages"
	@cd frontend && $(NPM) ci --omit=dev $(call named,node  )
	@touch $@

.make/node-tests: frontend/package.json frontend/package-lock.json
	@mkdir -p .make
	@echo "Node packages, with the tests' own"
	@cd frontend && $(NPM) ci $(call named,node  )
	@touch .make/node $@

.make/web: frontend/package-lock.json $(web_sources) | .make/node
	@echo "Web pages"
	@cd frontend && npm run --silent build $(call named,web   )
	@touch $@

.make/web-tests: .make/node-tests
	@$(MAKE) .make/web
	@touch $@

.PHONY: up run doctor backup restore test check bench generate lock clean help ready ready-to-test
