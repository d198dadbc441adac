#!/bin/bash
# Runs a command inside the node that node-up.sh made in DIR: its network, mounts and
# processes, but this machine's files (other than /run, /var/lib and /var/log).
#   in.sh DIR COMMAND...
D=$(cd "${1:?usage: in.sh DIR COMMAND...}" && pwd) || exit; shift
. "$(dirname "$0")/lib.sh"
pid=$(<"$D/run/node.pid") || { echo "there is no node in $D" >&2; exit 1; }   # unshare itself: in the namespaces, but for that of processes
RUN='' KUBECONFIG=$D/admin.kubeconfig PATH=$BIN:$PATH \
  exec nsenter --net="/proc/$pid/ns/net" --mount="/proc/$pid/ns/mnt" --pid="/proc/$pid/ns/pid_for_children" --wdns="$PWD" -- "$@"
