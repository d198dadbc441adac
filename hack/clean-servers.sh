#!/bin/bash
# Ends servers that tests, the demo and benchmarks left behind.
#   clean-servers.sh            all of them, also those of a run that is going on or was told to KEEP
#   clean-servers.sh --stale    only those whose run has ended without being asked to keep them
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for dir in "${TMPDIR:-/tmp}"/component-lease-*-*-??????; do
  [[ -d $dir ]] || continue
  if [[ ${1:-} == --stale ]]; then
    pid=${dir%-*}; pid=${pid##*-}
    [[ -e $dir/keep ]] || kill -0 "$pid" 2>/dev/null && continue
  fi
  echo "ending the server in $dir" >&2
  "$here/end-server.sh" "$dir"
done
