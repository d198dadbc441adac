#!/bin/bash
# A Rust service that embeds the participant compiles no Kubernetes code, no HTTP server and
# no command line: looks through what cargo would compile for it.
set -euo pipefail
cd "$(dirname "$0")/.."
status=0
for store in postgres mysql sqlite; do
  tree=$(cargo tree --locked -p component-lease --no-default-features --features "$store" --edges normal --prefix none --format '{lib}' | sort -u)
  if found=$(grep -xE 'kube(_.*)?|k8s_openapi|axum(_.*)?|clap(_.*)?|schemars|serde_yaml|prometheus_client|hyper(_.*)?' <<<"$tree"); then
    echo "the participant with the feature $store alone compiles: $(tr '\n' ' ' <<<"$found")" >&2
    status=1
  fi
done
exit $status
