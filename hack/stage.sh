#!/bin/bash
# Builds what the demo and the benchmarks run on a real node, with progress on standard error:
#   stage.sh DRIVER [sqlite|postgres]...
# Prints three lines: the image's archive, the program that competes, and the driver (a binary of
# the testkit). Says what this machine lacks, if it does.
set -euo pipefail
cd "$(dirname "$0")/.."
driver=${1:?usage: stage.sh DRIVER [sqlite|postgres]...}; shift
[[ $(uname) == Linux ]] || {
  echo "This runs Kubernetes' own programs in namespaces of their own, which needs Linux; this is $(uname)." >&2; exit 1; }
[[ $(id -u) == 0 ]] || command -v sudo >/dev/null || {
  echo "This makes namespaces, mounts and cgroups of its own, which needs root or sudo." >&2; exit 1; }
parts=(build controlplane node)
[[ " $* " != *" postgres "* ]] || parts+=(postgres)
hack/prerequisites.sh --install "${parts[@]}" >&2
hack/kubernetes/build.sh >&2

cache=${XDG_CACHE_HOME:-$HOME/.cache}/component-lease
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target-$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)}

# The image is kept by a hash of all that goes in: its build takes minutes, and a fresh clone has
# the same sources at another time and place.
sources() { cat Cargo.toml Cargo.lock rust-toolchain.toml; uname -m
  find src xtask/src -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; }
image_of_now() { echo "$cache/images/$(sources | sha256sum | cut -c1-16).tar"; }
image=$(image_of_now)
until [[ -e $image ]]; do
  echo "building the image (once for these sources; some 8 minutes of processor time)" >&2
  packed=$(cargo xtask image | tee /dev/stderr | sed -n '1s/: localhost.*//p')
  # Sources that somebody edited meanwhile may be in it or not.
  [[ $(image_of_now) == "$image" ]] || { image=$(image_of_now); continue; }
  mkdir -p "$cache/images"
  cp "$packed" "$image.$$"
  mv "$image.$$" "$image"
  # The ones of sources that are long gone.
  find "$cache/images" -name '*.tar' -mtime +30 -delete
done
cargo build --locked -p component-lease --features component-lease/cli --example discovery -p component-lease-testkit --bin "$driver" >&2
printf '%s\n' "$image" "$CARGO_TARGET_DIR/debug/examples/discovery" "$CARGO_TARGET_DIR/debug/$driver"
