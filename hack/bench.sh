#!/bin/bash
# Figures, not pass or fail. WHAT names the sections, DB the databases, of the environment or make:
#   make bench WHAT="failover release stock participant" DB="sqlite postgres"      (the default: all)
#     failover      leader's container killed: to the first answer of the next, on a real node
#     release       leader asked to end: the same
#     stock         release with the EndpointSlice batch period of stock Kubernetes
#     participant   what is_leader() costs, and a renewal's round trip
set -euo pipefail
cd "$(dirname "$0")/.."
read -ra what <<<"${WHAT:-failover release stock participant}"
read -ra databases <<<"${DB:-sqlite postgres}"
sections=() participant=
for section in "${what[@]}"; do case $section in
  participant) participant=1 ;;
  failover | release | stock) sections+=("$section") ;;
  *) sed -n '3,7p' "$0" >&2; exit 2 ;;
esac; done
join() { local IFS=,; echo "$*"; }
if ((${#sections[@]})); then
  built=$(hack/stage.sh bench "${databases[@]}")
  { read -r image; read -r program; read -r driver; } <<<"$built"
  "$driver" "$image" "$program" "$(join "${databases[@]}")" "$(join "${sections[@]}")"
fi
[[ -z $participant ]] || cargo bench --locked --quiet --bench participant
