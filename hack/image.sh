#!/bin/bash
# The container image: one static program on an empty base, made without a container engine.
# The Dockerfile describes the same for those who have one; a test compares the two.
#   image.sh                     builds the program and the image; prints where it is
#   image.sh --binary FILE OUT   only packs this binary, as if it were the program
# Beside OUT.tar lies OUT.json, the image's configuration.
set -euo pipefail
[[ ${1:-} != --binary ]] || set -- --binary "$(realpath "${2:?a binary}")" "$(realpath -m "${3:?where the archive goes}")"
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
description=$(sed -n 's/^description = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

if [[ ${1:-} == --binary ]]; then
  binary=$2 out=$3
else
  [[ $(uname) == Linux ]] || { echo "the image's program is built on Linux only (elsewhere: docker build .)" >&2; exit 1; }
  libc=$(cc -print-file-name=libc.a)
  [[ $libc == /* ]] || { echo "no static C library (libc.a): apt-get install libc6-dev" >&2; exit 1; }
  target=$(uname -m)-unknown-linux-gnu
  # --target keeps the flag off procedural macros; a static-pie of glibc resolves names in an
  # empty root as well (it reads /etc/resolv.conf and /etc/hosts and needs nothing else).
  # No path of the builder's home gets into the image.
  RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
    cargo build --locked --release --features cli --target "$target" --bin component-lease
  folder=${CARGO_TARGET_DIR:-target}
  binary=$folder/$target/release/component-lease
  out=$folder/image/component-lease-$version.tar
  # Static means: asks for no interpreter.
  if LC_ALL=C grep -qaF "/ld-linux" <(head -c 4096 "$binary"); then echo "$binary is not static" >&2; exit 1; fi
fi
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cp "$binary" "$work/component-lease"
hack/pack-image.sh "$out" "localhost/component-lease:$version" "$work/component-lease" \
  --user 65532:65532 \
  --label org.opencontainers.image.title=component-lease \
  --label "org.opencontainers.image.description=$description" \
  --label "org.opencontainers.image.version=$version" \
  --label org.opencontainers.image.licenses=Apache-2.0
config=$(tar -xOf "$out" manifest.json | sed -n 's/.*"Config":"\([^"]*\)".*/\1/p')
tar -xOf "$out" "$config" >"${out%.tar}.json"
echo "$out: localhost/component-lease:$version, $(($(stat -c %s "$out") / 1024)) KiB
  ctr -n k8s.io images import $out        (or: docker load -i, podman load -i, skopeo copy oci-archive:)"
