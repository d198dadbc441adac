#!/bin/bash
# Runs cargo-deny in the one version that this project uses, built once into the user's cache.
#   cargo-deny.sh ARGUMENTS...
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.20.2
cache=${XDG_CACHE_HOME:-$HOME/.cache}/component-lease
root=$cache/tools/cargo-deny-$version
if [[ ! -x $root/bin/cargo-deny ]]; then
  echo "building cargo-deny $version (once, some 4 minutes)"
  mkdir -p "$cache/tools"
  build=$(mktemp -d); trap 'rm -rf "$build"' EXIT
  CARGO_TARGET_DIR=$build cargo install --quiet --locked cargo-deny --version "$version" --root "$root"
fi
"$root/bin/cargo-deny" --locked "$@"
