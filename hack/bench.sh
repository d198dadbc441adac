#!/bin/bash
# Figures, not pass or fail. WHAT names the sections, DB the databases, of the environment or make:
#   make bench WHAT="failover release stock participant crowd kill outage handover roundtrip looks" DB="sqlite postgres"   (the default: all)
#     failover      leader's container killed: to the first answer of the next, on a real node
#     release       leader asked to end: the same
#     stock         release with the EndpointSlice batch period of stock Kubernetes
#     participant   what is_leader() costs, and a renewal's round trip
#     crowd         200 participants on one row whose holder falls silent: grants, attempts
#     kill          leading process killed: to the next leader, 200 times
#     outage        database frozen for two ttls: from its return to the next leader
#     handover      leader asked to step down: to the next leader, with LISTEN and without
#     roundtrip     the smallest ttl that works, by how long a round trip to the database takes
#     looks         a look of the controller at CLAIMED=10000 components among ROWS=1000000 rows: time and memory
# RUNS=10 measures the last three that often, PARTICIPANTS=20 makes a smaller crowd.
set -euo pipefail
cd "$(dirname "$0")/.."
read -ra what <<<"${WHAT:-failover release stock participant crowd kill outage handover roundtrip looks}"
read -ra databases <<<"${DB:-sqlite postgres}"
sections=() plain=()
for section in "${what[@]}"; do case $section in
  participant | crowd | kill | outage | handover | roundtrip | looks) plain+=("$section") ;;
  failover | release | stock) sections+=("$section") ;;
  *) sed -n '3,13p' "$0" >&2; exit 2 ;;
esac; done
join() { local IFS=,; echo "$*"; }
if ((${#sections[@]})); then
  built=$(hack/stage.sh bench "${databases[@]}")
  { read -r image; read -r program; read -r driver; } <<<"$built"
  hack/as-root.sh "$driver" "$image" "$program" "$(join "${databases[@]}")" "$(join "${sections[@]}")"
fi
if ((${#plain[@]})); then
  hack/prerequisites.sh --install build postgres mysql >&2
  cargo bench --locked --quiet --bench participant -- "${plain[@]}"
fi
