#!/bin/bash
# The demo: three replicas on a real Kubernetes of their own, their leader killed in four ways.
#   demo.sh [sqlite|postgres]       (KEEP=1: leaves all of it running and says how to go on)
# Builds what is missing. Ends and removes all that it started, also after Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."
database=${1:-sqlite}
case $database in sqlite | postgres) ;; *) echo "DB=$database: the demo knows sqlite and postgres" >&2; exit 2 ;; esac
built=$(hack/stage.sh demo "$database")
{ read -r image; read -r program; read -r driver; } <<<"$built"
exec hack/as-root.sh "$driver" "$database" "$image" "$program"
