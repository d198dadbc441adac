#!/bin/bash
# Changes the rules one by one and tells which changes no test notices, with cargo-mutants in the one version that this
# project uses, built once into the user's cache. What is changed, and what is accepted, is in .cargo/mutants.toml.
#   cargo-mutants.sh ARGUMENTS...        for example: --re election/sight
set -euo pipefail
cd "$(dirname "$0")/.."
version=27.1.0
cache=${XDG_CACHE_HOME:-$HOME/.cache}/component-lease
root=$cache/tools/cargo-mutants-$version
if [[ ! -x $root/bin/cargo-mutants ]]; then
  echo "building cargo-mutants $version (once, some 4 minutes)"
  mkdir -p "$cache/tools"
  build=$(mktemp -d); trap 'rm -rf "$build"' EXIT
  CARGO_TARGET_DIR=$build cargo install --quiet --locked cargo-mutants --version "$version" --root "$root"
fi
# One job and a low priority: each change is a build of the library and of its tests.
mutants() { nice "$root/bin/cargo-mutants" mutants --jobs 1 --output "${MUTANTS_OUT:-$cache/mutants}" "$@"; }
if (($#)); then mutants "$@"; exit; fi
found=0
mutants --re '^src/(election|routing|controller)/' || found=$?
# What supervises a process is seen by the tests that run one.
mutants --re '^src/agent/' -- --test it agent_run || found=$?
exit "$found"
