# The one door to everything; CI goes through it too. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help setup setup-build build demo test test-long search bench image rootfs krew lint fmt clean

help: ## Lists the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Installs what building and testing need (Debian packages, cargo-nextest)
	@.ci/setup

setup-build:
	@.ci/setup build

build: setup-build ## Builds policyd and policyc
	@$(CARGO) build --quiet --locked --package policyd --package policyc

demo: build ## Shows a shop before and after its policies, with real packets (needs root; seconds after the build)
	@$(CARGO) run --quiet --locked --package policy-tests --bin demo

# Without an API server the tests that need one are left out, and listed; CI has one.
ON_API_SERVER := package(policy-tests) & binary(cluster)
# Properties draw the same each time, so that a change is judged by what it changed. `make search` draws anew.
export PROPTEST_RNG_SEED ?= 1
LEAVE_OUT := $(if $(KUBEBUILDER_ASSETS)$(CI),,--filterset 'not ($(ON_API_SERVER))')

test: setup ## Runs every test, kernel tests included (KERNEL_TESTS=skip leaves those out)
	@$(CARGO) build --quiet --locked --workspace --all-targets
	@$(CARGO) test --quiet --locked --workspace --doc
	@$(CARGO) nextest run --locked --workspace $(LEAVE_OUT)
ifneq ($(LEAVE_OUT),)
	@echo; echo "Not run, for want of an API server (KUBEBUILDER_ASSETS is not set):"
	@$(CARGO) nextest list --locked --package policy-tests --filterset '$(ON_API_SERVER)' 2>/dev/null
	@echo "To get one, with Go:"
	@echo "    go install sigs.k8s.io/controller-runtime/tools/setup-envtest@latest"
	@echo '    eval "$$(setup-envtest use -p env)"'
endif

CASES ?= 50000
search: setup ## Looks for what breaks a law among inputs that were never drawn before, for an hour (CASES=50000)
	@env -u PROPTEST_RNG_SEED PROPTEST_CASES=$(CASES) $(CARGO) nextest run --locked --workspace --profile search

test-long: setup ## Runs what takes minutes: crashes and soaks, up to 20,000 pods on an API server, the image's files (needs root)
	@$(CARGO) build --quiet --locked --package policyd --package policyc
	@$(CARGO) nextest run --locked --package policy-tests --ignore-default-filter --no-capture \
		--filterset 'binary(cluster) & test(/^long::/)'
	@$(CARGO) nextest run --locked --package policyd --package policy-tests --ignore-default-filter \
		--no-tests pass --filterset 'binary(kernel) & test(/^long::/)'
	@rm -rf --one-file-system "$(TARGET)/rootfs"
	@PROGRAMS="$(TARGET)/debug" .ci/rootfs "$(TARGET)/rootfs"
	@POLICYD_ROOTFS="$(abspath $(TARGET))/rootfs" $(CARGO) nextest run --locked --package policy-tests \
		--ignore-default-filter --filterset 'binary(kernel) & test(/^image::/)'

bench: setup-build ## Measures what policies cost packets and nodes (needs root; BENCH="steady denied" chooses, QUICK=1)
	@$(CARGO) run --quiet --locked --profile measure --package policy-tests --bin bench -- \
		$(if $(QUICK),--quick) --output "$(TARGET)/bench" $(BENCH)

image: ## Builds the container image (IMAGE=policyd:VERSION, CONTAINER_TOOL=docker|podman|buildah)
	@.ci/image "$(IMAGE)" "$(CONTAINER_TOOL)"

rootfs: setup-build ## Lays out the image's file system in DIR, without a container engine (needs root)
	@.ci/rootfs "$(DIR)"

krew: ## Prints the plugin index entry of a release (ARCHIVES=DIR of kubectl-policyc-OS-ARCH.tar.gz, ADDRESS=URL of them)
	@.ci/krew "$(ARCHIVES)" "$(ADDRESS)"

lint: setup ## Checks format, clippy, documentation, and that the library is pure
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --quiet --locked --workspace --all-targets -- -D warnings
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --locked --workspace --no-deps --document-private-items
	@.ci/purity

fmt: ## Formats the code
	@$(CARGO) fmt --all

clean: ## Removes what was built
	@$(CARGO) clean
