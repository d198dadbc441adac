#!/bin/bash
# Stops what up.sh or node-up.sh started in DIR, by the numbers noted there. Leaves DIR itself.
# (SIGKILL: nothing here is wanted again, and nobody has patience for ten goodbyes.)
D=$(cd "${1:?usage: down.sh DIR}" && pwd) || exit
killed=()
for f in "$D"/run/node.pid "$D"/run/*.pid; do # the node first: unshare --kill-child takes all along
  [[ -f $f ]] || continue
  pid=$(<"$f"); rm "$f"
  # Gone, or the number is somebody else's now?
  grep -qsF -- "$D" "/proc/$pid/cmdline" && kill -KILL "$pid" && killed+=("$pid")
done
for pid in "${killed[@]}"; do
  for _ in {1..100}; do grep -qsF -- "$D" "/proc/$pid/cmdline" || break; sleep 0.05; done
done
if [[ -f $D/run/cgroup ]]; then   # can be removed once the last process is gone
  cgroup=$(<"$D/run/cgroup")
  for _ in {1..100}; do
    find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" -exec rmdir {} + 2>/dev/null
    [[ -z $(find /sys/fs/cgroup -maxdepth 2 -name "$cgroup") ]] && break
    sleep 0.1
  done
  rm "$D/run/cgroup"
fi
true
