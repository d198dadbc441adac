#!/bin/sh
# Starts a test binary for cargo (hack/test.sh names it as the runner). Most tests of `it` and `database` wait for
# servers and leases, not for a processor: twice as many of them at a time take half as long.
case ${1##*/} in
  it-* | database-*) : "${RUST_TEST_THREADS:=$(($(nproc) * 2))}"; export RUST_TEST_THREADS ;;
esac
# Some start servers in trees and namespaces of their own.
exec "$(dirname "$0")/as-root.sh" "$@"
