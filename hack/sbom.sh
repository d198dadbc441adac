#!/bin/bash
# What the program consists of, as CycloneDX: every crate with its version, checksum, licence and source, as Cargo.lock
# pins it, without what only tests need. Made by cargo-cyclonedx in the one version that this project uses, built once
# into the user's cache.
#   sbom.sh [OUT]     the file; default: component-lease-VERSION.cdx.json in the target folder
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.5.9
cache=${XDG_CACHE_HOME:-$HOME/.cache}/component-lease
root=$cache/tools/cargo-cyclonedx-$version
ours=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
out=$(realpath -m "${1:-${CARGO_TARGET_DIR:-target}/sbom/component-lease-$ours.cdx.json}")
if [[ ! -x $root/bin/cargo-cyclonedx ]]; then
  echo "building cargo-cyclonedx $version (once, some 2 minutes)"
  mkdir -p "$cache/tools"
  build=$(mktemp -d); trap 'rm -rf "$build"' EXIT
  CARGO_TARGET_DIR=$build cargo install --quiet --locked cargo-cyclonedx --version "$version" --root "$root"
fi
# It writes beside each Cargo.toml of the workspace, under one name.
name=component-lease-sbom
clean() { rm -f "$name.json" "testkit/$name.json"; }
trap 'clean; rm -rf "${build:-}"' EXIT
"$root/bin/cargo-cyclonedx" cyclonedx --quiet --all-features --format json --spec-version 1.5 \
  --target "$(uname -m)-unknown-linux-gnu" --override-filename "$name"
mkdir -p "$(dirname "$out")"
mv "$name.json" "$out"
for crate in kube sqlx tokio rustls; do
  grep -q "\"name\": \"$crate\"" "$out" || { echo "$out does not name $crate" >&2; exit 1; }
done
if grep -q '"name": "component-lease-testkit"' "$out"; then echo "$out names what only tests need" >&2; exit 1; fi
echo "$out"
