# The one door to everything; CI goes through it too. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo

.PHONY: help setup build demo test lint fmt clean

help: ## Lists the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Installs what building and testing need (Debian packages, cargo-nextest)
	@.ci/setup

build: setup ## Builds policyd and policyc
	@$(CARGO) build --quiet --locked --package policyd --package policyc

demo: build ## Shows a shop before and after its policies, with real packets (needs root; seconds after the build)
	@$(CARGO) run --quiet --locked --package policy-tests --bin demo

test: setup ## Runs every test, kernel tests included (KERNEL_TESTS=skip leaves those out)
	@$(CARGO) build --quiet --locked --workspace --all-targets
	@$(CARGO) test --quiet --locked --workspace --doc
	@$(CARGO) nextest run --locked --workspace

lint: setup ## Checks format, clippy, documentation, and that the library is pure
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --quiet --locked --workspace --all-targets -- -D warnings
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --locked --workspace --no-deps --document-private-items
	@.ci/purity

fmt: ## Formats the code
	@$(CARGO) fmt --all

clean: ## Removes what was built
	@$(CARGO) clean
