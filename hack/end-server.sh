#!/bin/bash
# Ends the server that a test, the demo or a benchmark started in DIR, and removes DIR.
#   end-server.sh DIR
# DIR is one of those that the testkit makes: component-lease-{postgres,pgbouncer,mysql,prometheus,controlplane,node,files}-PID-XXXXXX.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=${1:?usage: end-server.sh DIR}
[[ -d $dir ]] || exit 0
dir=$(cd "$dir" && pwd)
kind=$(basename "$dir"); [[ $kind == component-lease-*-* ]] || { echo "$dir is not a server's directory" >&2; exit 2; }
kind=${kind#component-lease-}; kind=${kind%%-*}

# What a process was started with; nothing when it is gone. (ps is not on every machine.)
args_of() { if [[ -d /proc/self ]]; then tr '\0' ' ' <"/proc/$1/cmdline"; else ps -o args= -p "$1"; fi 2>/dev/null; }

end_postgres() {
  local pid file=$dir/data/postmaster.pid
  pid=$(head -n 1 "$file" 2>/dev/null) || return 0
  [[ -n $pid && $(args_of "$pid") == *"$dir"* ]] || return 0              # gone, or the number is somebody else's now
  kill -QUIT "$pid"; kill -CONT "$pid" 2>/dev/null                        # immediate: its data go away anyhow
  for _ in {1..50}; do [[ -e $file ]] || return 0; sleep 0.1; done
  kill -KILL "$pid"
}

end_process() {
  local pid; pid=$(cat "$dir/process" 2>/dev/null) || return 0
  [[ -n $pid && $(args_of "$pid") == *"$dir"* ]] || return 0
  kill -KILL "$pid"                                                       # its data go away anyhow
  for _ in {1..50}; do [[ $(args_of "$pid") == *"$dir"* ]] || return 0; sleep 0.1; done
}

case $kind in
postgres) end_postgres ;;
mysql | pgbouncer | prometheus) end_process ;;
controlplane | node) "$here/kubernetes/down.sh" "$dir" ;;
files) ;;
*) echo "end-server.sh: unknown kind of server: $dir" >&2; exit 2 ;;
esac
# A second try: a dying server may write its last words while its directory goes.
rm -rf -- "$dir" 2>/dev/null || { sleep 0.5; rm -rf -- "$dir"; }
