#!/bin/bash
# Takes the API server of a cluster away and brings it back, everything else running on.
#   apiserver.sh DIR stop|kill|start|restart       (stop: SIGTERM; kill: SIGKILL)
set -euo pipefail
D=$(cd "${1:?usage: apiserver.sh DIR stop|kill|start|restart}" && pwd); verb=${2:?stop, kill, start or restart}
# In a node's own namespaces the numbers of processes are others.
if [[ -e $D/run/node.pid && -z ${RUN:-} ]]; then
  exec "$(dirname "$0")/in.sh" "$D" env RUN=/run/component-lease "$(realpath "$0")" "$D" "$verb"
fi
. "$(dirname "$0")/lib.sh"
file=$RUN/kube-apiserver.pid

end() { # SIGNAL
  local pid; pid=$(<"$file")
  rm "$file"
  kill "-$1" "$pid" 2>/dev/null || return 0
  # It would wait a minute for clients that hold on to their connections: 3 s will do.
  # (A zombie answers kill -0, but has no command line; it keeps its port until its last thread has ended.)
  for i in {1..50}; do
    threads=(/proc/"$pid"/task/*)
    [[ -n $(tr -d '\0' 2>/dev/null <"/proc/$pid/cmdline") ]] || ((${#threads[@]} > 1)) || return 0
    ((i != 30)) || kill -KILL "$pid"
    sleep 0.1
  done
  echo "the API server (process $pid) does not end" >&2; return 1
}
begin() {
  eval "($(<"$RUN/kube-apiserver.cmd"))"
  until_ok 60 "the API server" "$(program kubectl)" --kubeconfig "$D/admin.kubeconfig" get --raw /readyz
}
case $verb in
stop) end TERM ;;
kill) end KILL ;;
start) begin ;;
restart) end TERM; begin ;;
*) echo "stop, kill, start or restart, not $verb" >&2; exit 2 ;;
esac
