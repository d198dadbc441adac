#!/bin/bash
# Builds Kubernetes' programs for the tests and the demo, from the modules pinned beside this
# file, into the user's cache. A second run finds everything there and does nothing.
#   build.sh                 builds what is missing (some 15 minutes the first time on 2 cores)
#   build.sh --folder        prints where the programs are (or will be)
#   build.sh --missing       prints what is not built yet
# One program at a time and JOBS=2 compilers: about 2 GiB of memory at the peak.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
missing() { for p in "${PROGRAMS[@]}"; do [[ -e $BIN/$p ]] || echo "$p"; done; }
case ${1:-} in
--folder) echo "$BIN"; exit ;;
--missing) missing; exit ;;
'') ;;
*) sed -n '2,6p' "$0" >&2; exit 2 ;;
esac
[[ -n $(missing) ]] || exit 0
go=$("$HERE/go.sh") || { echo "hack/prerequisites.sh --install gets it" >&2; exit 1; }
PATH=$(dirname "$go"):$PATH
unset GOROOT                              # of another Go
mkdir -p "$BIN"
exec 9>"$BIN.lock"
flock --nonblock 9 || { echo "another build of Kubernetes' programs is going on: waiting for it"; flock 9; }
mapfile -t todo < <(missing)
((${#todo[@]})) || exit 0
echo "building Kubernetes' programs into $BIN (once): ${todo[*]}"
export CGO_ENABLED=0

# build MODULE NAME PACKAGE [LINKER FLAGS] : $BIN/NAME, complete or not at all.
build() {
  [[ -x $BIN/$2 ]] && return
  local t=$SECONDS ticker=
  if [[ -t 1 ]]; then
    { exec 9>&-; while sleep 1; do printf '\r  %-24s %4d s ' "$2" $((SECONDS - t)); done; } & ticker=$!
  else
    echo "  $2 ..."
  fi
  local done=0
  (cd "$HERE/$1" && go build -p "${JOBS:-2}" -trimpath -buildvcs=false -ldflags "-s -w ${4:-}" -o "$BIN/$2.new" "$3") 2>"$BIN/$2.log" || done=$?
  [[ -z $ticker ]] || { kill "$ticker"; wait "$ticker" 2>/dev/null || true; printf '\r'; }
  if ((done)); then tail -n 30 "$BIN/$2.log" >&2; echo "building $2 failed (all of it: $BIN/$2.log)" >&2; exit 1; fi
  mv "$BIN/$2.new" "$BIN/$2"; rm "$BIN/$2.log"
  printf '  %-24s %4d s, %d MiB\n' "$2" $((SECONDS - t)) "$(du -m "$BIN/$2" | cut -f1)"
}

v=$(cd "$HERE/controlplane" && go list -m -f '{{.Version}}' k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${v#v}"
x=k8s.io/component-base/version; x="-X $x.gitVersion=$v -X $x.gitMajor=$major -X $x.gitMinor=$minor"
build controlplane etcd go.etcd.io/etcd/server/v3
for p in kube-apiserver kube-controller-manager kube-scheduler kubectl kubelet kube-proxy; do
  build controlplane $p k8s.io/kubernetes/cmd/$p "$x"
done
build helm helm helm.sh/helm/v4/cmd/helm
build dns coredns .
build images pause ./pause
[[ -e $BIN/pause.tar ]] || (cd "$HERE/../.." && CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$(dirname "$BIN")/xtask} cargo xtask pack "$BIN/pause.tar" localhost/pause:1 "$BIN/pause")
echo "Kubernetes' programs are built ($((SECONDS / 60)) min)"
