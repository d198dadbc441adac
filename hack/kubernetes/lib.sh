# Helpers shared by the scripts of this folder. Sourced; the ones below "servers" need $D,
# the directory of the cluster. Every started process leaves in $RUN NAME.pid (its number)
# and NAME.cmd (how to start it again), and its output in $D/log/NAME.log.

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# --- programs -------------------------------------------------------------------
# They lie in the user's cache, in a folder named after a hash of all that goes in, so that
# two checkouts share them and a changed version does not disturb a cluster that runs.
PROGRAMS=(etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl helm coredns pause.tar)
RECIPE=1                                  # count up when build.sh makes something else of the same sources
programs_folder() {
  local stamp
  stamp=$(cd "$HERE" && { echo "$RECIPE"; uname -sm; cat */go.{mod,sum} dns/*.go images/*/*.go 2>/dev/null; } | sha256sum | cut -c1-12)
  echo "${XDG_CACHE_HOME:-$HOME/.cache}/component-lease/kubernetes/$stamp"
}
BIN=$(programs_folder)

# program NAME : its path. KUBEBUILDER_ASSETS (etcd, kube-apiserver, kubectl) goes first.
program() {
  if [[ -n ${KUBEBUILDER_ASSETS:-} && -x $KUBEBUILDER_ASSETS/$1 ]]; then echo "$KUBEBUILDER_ASSETS/$1"
  elif [[ -x $BIN/$1 ]]; then echo "$BIN/$1"
  else echo "$1 has not been built: run hack/kubernetes/build.sh" >&2; return 1; fi
}

# --- servers --------------------------------------------------------------------
RUN=${RUN:-${D:-}/run}

now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1fs", b - a }'; }

# start NAME COMMAND... : in the background, in a session of its own.
start() {
  local name=$1; shift
  { printf 'cd %q && start %q' "$PWD" "$name"; printf ' %q' "$@"; echo; } >"$RUN/$name.cmd"
  setsid "$@" >>"$D/log/$name.log" 2>&1 </dev/null &
  echo $! >"$RUN/$name.pid"
}

# until_ok SECONDS WHAT COMMAND... : polls until the command succeeds; no longer than that,
# and not past the death of anything that start() started.
until_ok() {
  local end=$((SECONDS + $1)) what=$2 f; shift 2
  until "$@" >/dev/null 2>&1; do
    for f in "$RUN"/*.pid; do
      kill -0 "$(<"$f")" 2>/dev/null || {
        f=$(basename "$f" .pid); echo "$f died; the end of $D/log/$f.log:" >&2; tail -n 15 "$D/log/$f.log" >&2; return 1; }
    done
    ((SECONDS < end)) || { echo "gave up waiting for: $what (logs in $D/log)" >&2; return 1; }
    sleep 0.1
  done
}

# A TCP port on loopback that nobody answers on right now.
free_port() {
  local p
  while p=$((20000 + RANDOM % 12000)); (: </dev/tcp/127.0.0.1/$p) 2>/dev/null; do :; done
  echo $p
}

# ca : one authority for servers and clients alike.
ca() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
    -subj /CN=component-lease-test -keyout "$D/pki/ca.key" -out "$D/pki/ca.crt" 2>/dev/null
}

# cert NAME SUBJECT [SAN] : a leaf signed by that authority (not itself an authority:
# rustls refuses such a one as a server's own).
cert() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
    -CA "$D/pki/ca.crt" -CAkey "$D/pki/ca.key" -subj "$2" \
    -addext basicConstraints=critical,CA:FALSE -addext extendedKeyUsage=serverAuth,clientAuth \
    ${3:+-addext subjectAltName=$3} -keyout "$D/pki/$1.key" -out "$D/pki/$1.crt" 2>/dev/null
}

# kubeconfig NAME SUBJECT : a client certificate and a self-contained kubeconfig ($D/NAME.kubeconfig).
kubeconfig() {
  cert "$1" "$2"
  cat >"$D/$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: test
clusters: [{name: test, cluster: {server: "$URL", certificate-authority-data: $(base64 -w0 "$D/pki/ca.crt")}}]
contexts: [{name: test, context: {cluster: test, user: $1}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$D/pki/$1.crt"), client-key-data: $(base64 -w0 "$D/pki/$1.key")}}]
YAML
}
