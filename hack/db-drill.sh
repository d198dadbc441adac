#!/bin/bash
# The drill of a database that elects its primary: three `component-lease db run` with PostgreSQL, a writer, one fault
# after the other, and a judge that asks PostgreSQL alone. Prints the outage of each kind beside its aim; ends with 1 where
# an acknowledged row is lost, the servers differ or a process outlives its supervisor. Of the environment or make:
#   FAULTS=20          how many
#   RELEASE=18         PostgreSQL 18 in place of the installed one; also 13 and 17
#   KINDS="switchover server both frozen standby sigterm store cut mute deaf cut-from-store"      which, in turn (the default: all)
#   PEER=patroni       Patroni and etcd in place of ours, for comparison (PostgreSQL 18)
set -euo pipefail
cd "$(dirname "$0")/.."
parts=(build postgres)
[[ -z ${RELEASE:-}${PEER:-} ]] || parts+=(mysql)        # what fetches the databases of other Debian releases
hack/prerequisites.sh --install "${parts[@]}" >&2
cache=${XDG_CACHE_HOME:-$HOME/.cache}/component-lease
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target-$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)}
cargo build --locked --quiet --features cli --bin component-lease >&2
cargo build --locked --quiet -p component-lease-testkit --bin drill >&2
exec "$CARGO_TARGET_DIR/debug/drill" "$CARGO_TARGET_DIR/debug/component-lease"
