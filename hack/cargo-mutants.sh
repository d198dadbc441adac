#!/bin/bash
# Changes the rules one by one and tells which changes no test notices, with cargo-mutants in the one version that this
# project uses, built once into the user's cache.
#   cargo-mutants.sh                    the pure rules (minutes), then `apply` and the supervisor (hours)
#   cargo-mutants.sh rules [ARGS...]    the pure rules alone; for example: rules --re election/sight
#   cargo-mutants.sh edges [ARGS...]    `apply` and the supervisor alone
set -euo pipefail
cd "$(dirname "$0")/.."
version=27.1.0
cache=${XDG_CACHE_HOME:-$HOME/.cache}/component-lease
root=$cache/tools/cargo-mutants-$version
out=${MUTANTS_OUT:-$cache/mutants}
if [[ ! -x $root/bin/cargo-mutants ]]; then
  echo "building cargo-mutants $version (once, some 4 minutes)"
  mkdir -p "$cache/tools"
  build=$(mktemp -d); trap 'rm -rf "$build"' EXIT
  CARGO_TARGET_DIR=$build cargo install --quiet --locked cargo-mutants --version "$version" --root "$root"
fi
mkdir -p "$out"
# One job and a low priority.
mutants() { nice "$root/bin/cargo-mutants" mutants --jobs 1 "$@"; }
# cargo-mutants takes a file that does not exist for one without any rule, and is content.
existing() { for path; do [[ -e $path ]] || { echo "cargo-mutants.sh: there is no $path any more: name where it went" >&2; exit 2; }; done; }

# The rules use no database, no client and no runtime. In a crate of their own a change costs a second instead of half
# a minute, so they can all be tried. Members and their dependencies are read from the project, as it stands.
rules() {
  local crate=$out/crate rooms=(election membership rate routing)
  existing "${rooms[@]/#/src/}" src/clock.rs src/name.rs
  rm -rf "$crate"; mkdir -p "$crate/src" "$crate/docs"
  cp -r "${rooms[@]/#/src/}" src/clock.rs src/name.rs "$crate/src/"
  # A test compares the words of conditions with the reference.
  cp -r docs "$crate/"
  cp Cargo.lock rust-toolchain.toml "$crate/"
  printf 'pub mod %s;\n' clock name "${rooms[@]}" > "$crate/src/lib.rs"
  {
    printf '[workspace]\n[package]\nname = "rules"\nversion = "0.0.0"\nedition = "2024"\n[profile.dev]\ndebug = false\n[dependencies]\n'
    grep -E '^(fastrand|regex-lite|rustix|serde|thiserror) = ' Cargo.toml | sed 's/, optional = true//'
  } > "$crate/Cargo.toml"
  mutants --dir "$crate" --output "$out/rules" --config .cargo/mutants.toml --minimum-test-timeout 20 "$@" -- --lib
}
# Each change is a build of the library and of its tests. What supervises a process is seen by the tests that run one.
edges() {
  local found=0 apply=src/controller/reconcile/apply.rs supervise=src/run/supervise.rs
  existing "$apply" "$supervise"
  mutants --output "$out/apply" --config .cargo/mutants.toml --file "$apply" "$@" -- --lib || found=$?
  mutants --output "$out/supervise" --config .cargo/mutants.toml --file "$supervise" "$@" -- --test it agent_run || found=$?
  return "$found"
}
found=0
case ${1:-all} in
  rules) shift; rules "$@" || found=$? ;;
  edges) shift; edges "$@" || found=$? ;;
  all) rules || found=$?; edges || found=$? ;;
  *) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
exit "$found"
