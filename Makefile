# What can be done with this repository: "make" lists it. Everything that is built or
# fetched is kept by version in the user's cache folder, as a fresh clone has none of it.
SHELL := /bin/bash
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/component-lease
TOOLCHAIN := $(shell sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
export CARGO_TARGET_DIR ?= $(CACHE)/target-$(TOOLCHAIN)
# The store of the demo: sqlite or postgres.
DB ?= sqlite

.DEFAULT_GOAL := help
# Of the environment or the command line: INSTALL=no only says what is missing.
export INSTALL

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-15s %s\n", $$1, $$2 }'

.PHONY: prerequisites
prerequisites: ## gets what this machine lacks for all targets (INSTALL=no: only says it)
	@hack/prerequisites.sh --install

.PHONY: try
try: ## a first election in this terminal: a leader is killed, another takes over (no cluster, no root, 15 s)
	@hack/prerequisites.sh --install build
	@cargo build --locked --features cli
	@$(CARGO_TARGET_DIR)/debug/component-lease try

.PHONY: build
build: ## the program, for development
	cargo build --locked --features cli

.PHONY: programs
programs: ## Kubernetes' own programs, for tests and demo (once; some 15 minutes on 2 cores)
	@hack/kubernetes/build.sh

.PHONY: test
test: ## all tests, on real servers that they start (ARGS='…' goes to cargo test)
	@hack/test.sh $(ARGS)

.PHONY: fmt
fmt: ## formats the Rust code
	cargo fmt --all

.PHONY: lint
lint: ## formatting and clippy, for the program and for each choice of stores that a library may have
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked -p component-lease --lib --no-default-features --features postgres -- -D warnings
	cargo clippy --locked -p component-lease --lib --no-default-features --features mysql -- -D warnings
	cargo clippy --locked -p component-lease --lib --no-default-features --features sqlite -- -D warnings
	cargo clippy --locked -p component-lease --lib --no-default-features -- -D warnings

.PHONY: docs
docs: ## the API's documentation, broken links denied
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --features component-lease/cli --no-deps --document-private-items
	RUSTDOCFLAGS="-D warnings" cargo doc --locked -p component-lease --no-default-features --features postgres,mysql,sqlite --no-deps

.PHONY: package
package: ## the crate as it would be published, built from its archive
	cargo package --locked -p component-lease

.PHONY: site
site: ## the docs as a website (once: builds mdBook)
	@hack/site.sh

.PHONY: crd
crd: ## writes the resource definitions anew, where they are kept
	UPDATE=1 cargo test --locked --quiet --test generated

.PHONY: chart-lint
chart-lint: programs ## the chart: lint, golden files, refusals
	cargo test --locked --test chart

.PHONY: deny
deny: ## licences, duplicate and banned crates, sources
	@hack/cargo-deny.sh check --hide-inclusion-graph bans licenses sources

.PHONY: advisories
advisories: ## known vulnerabilities of our dependencies (fetches the RustSec database from GitHub)
	@hack/cargo-deny.sh check advisories || { echo "If the database could not be fetched: this target needs a way to github.com; no other target does." >&2; exit 1; }

.PHONY: sbom
sbom: ## what the program consists of, as CycloneDX (once: builds cargo-cyclonedx)
	@hack/sbom.sh

.PHONY: mutants
mutants: ## changes the rules one by one, tells which changes no test notices (minutes for the rules, then hours; ARGS='rules --re election/sight')
	@hack/cargo-mutants.sh $(ARGS)

.PHONY: krew
krew: ## the kubectl plugin: an archive and its manifest, in target/krew
	cargo build --locked --quiet --release --features cli
	hack/krew.sh target/release/component-lease target/krew

.PHONY: image
image: ## the container image, as an archive (no container engine needed)
	@cargo xtask image

.PHONY: demo
demo: ## three replicas on a real Kubernetes, their leader killed in four ways (DB=postgres, KEEP=1)
	@hack/demo.sh $(DB)

.PHONY: bench
bench: ## what a participant costs, how long a failover takes, as distributions
	@hack/bench.sh

.PHONY: db-drill
db-drill: ## three `db run` and a writer, 20 faults: outages, and rows that were acknowledged and lost (FAULTS=11, RELEASE=18, KINDS="frozen cut", PEER=patroni)
	@hack/db-drill.sh

.PHONY: clean-servers
clean-servers: ## ends every server that tests, demo or bench left behind
	@hack/clean-servers.sh
