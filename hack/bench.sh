#!/bin/bash
# Figures, not pass or fail. WHAT names the sections, DB the databases, of the environment or make:
#   make bench WHAT="failover release switchover rollout surgeless statefulset stock participant crowd kill outage handover verbs roundtrip looks scale" DB="sqlite postgres"   (the default: all)
#     failover      leader's container killed: to the first answer of the next, on a real node
#     release       leader asked to end: the same
#     switchover    a LeaseRequest for another pod: to its first answer
#     rollout       kubectl rollout restart: handovers, and seconds without an answer
#     surgeless     the same with maxSurge 0, maxUnavailable 1
#     statefulset   the same of a StatefulSet (last: it takes the Deployment's place)
#     stock         release with the EndpointSlice batch period of stock Kubernetes
#     participant   what is_leader() costs, and a renewal's round trip
#     crowd         200 participants on one row whose holder falls silent: grants, attempts
#     kill          leading process killed: to the next leader, 200 times
#     outage        database frozen for 10 s, two ttls: from its return to the next leader
#     handover      leader asked to step down: to the next leader, with LISTEN and without
#     verbs         an operator's request: to the next leader, on each database
#     roundtrip     by how long a round trip takes: connecting, looking, and the smallest ttl that works
#     looks         a look of the controller at CLAIMED=10000 components among ROWS=1000000 rows: time and memory
#     scale         the controller with SIZE=1000 resources of PODS=3 pods: memory, adoption, BURST=300 changes of leader at
#                   once, the steady state among ROWS=100000 rows; BEFORE=PROGRAM measures another build first
# RUNS=10 measures what is measured again and again that often, PARTICIPANTS=20 makes a smaller crowd, PLACE=MySQL tries
# round trips to that database alone.
set -euo pipefail
cd "$(dirname "$0")/.."
read -ra what <<<"${WHAT:-failover release switchover rollout surgeless statefulset stock participant crowd kill outage handover verbs roundtrip looks scale}"
read -ra databases <<<"${DB:-sqlite postgres}"
sections=() plain=() scale=
for section in "${what[@]}"; do case $section in
  participant | crowd | kill | outage | handover | verbs | roundtrip | looks) plain+=("$section") ;;
  failover | release | switchover | rollout | surgeless | statefulset | stock) sections+=("$section") ;;
  scale) scale=1 ;;
  *) sed -n '3,22p' "$0" >&2; exit 2 ;;
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
if [[ $scale ]]; then
  hack/prerequisites.sh --install build postgres controlplane >&2
  hack/kubernetes/build.sh >&2
  cargo bench --locked --quiet --bench scale
fi
