#!/bin/bash
# Prints the path of a program that asks kstatus, by which Flux judges every resource (main.go says how). It is built
# once, into the user's cache, by the versions of its modules (a minute on 2 cores).
set -euo pipefail
cd "$(dirname "$0")"
stamp=$({ uname -sm; cat go.mod go.sum main.go; } | sha256sum | cut -c1-12)
program=${XDG_CACHE_HOME:-$HOME/.cache}/component-lease/tools/kstatus-$stamp
if [[ ! -x $program ]]; then
  go=$(../kubernetes/go.sh)
  mkdir -p "$(dirname "$program")"
  echo "building kstatus (once)" >&2
  CGO_ENABLED=0 GOROOT='' "$go" build -trimpath -buildvcs=false -ldflags '-s -w' -o "$program.$$" . >&2
  mv "$program.$$" "$program"
fi
echo "$program"
