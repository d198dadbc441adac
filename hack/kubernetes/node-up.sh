#!/bin/bash
# A whole Kubernetes in namespaces of its own: control plane, containerd, kubelet,
# kube-proxy, scheduler, DNS, one Ready node called "node".   Needs root and Linux.
#   node-up.sh DIR [IMAGE.tar...]   brings it up in the (new or empty) directory DIR, with these images
#   in.sh DIR COMMAND...            runs a command in the node's network and mounts
#   down.sh DIR                     ends it: killing the namespace's PID 1 takes all along
# Nothing leaves the machine (the network namespace has no way out), no iptables rule,
# sysctl, mount or file of the host changes, except for cgroups, which down.sh removes.
# DIR must not lie under /run, /var/lib or /var/log. DIR/host is for hostPath volumes.
# May be set: SLICE_BATCH (see up.sh; 0s is stock Kubernetes), PROXY_MODE=iptables, PROXY_MIN_SYNC.
# Debian packages: containerd containernetworking-plugins nftables iptables iproute2 openssl.
set -euo pipefail
unset KUBEBUILDER_ASSETS                   # kubelet and API server must be of one version
D=${1:?usage: node-up.sh DIR [IMAGE.tar...]}; mkdir -p "$D"; D=$(cd "$D" && pwd); shift
. "$(dirname "$0")/lib.sh"
PATH=$PATH:/usr/sbin:/sbin
CNI=${CNI_BIN:-/usr/lib/cni}              # where Debian puts the CNI plugins
NODE=node
export ADDRESS=198.18.0.1 PORT=6443 PODS=198.18.0.0/24 SERVICES=198.19.0.0/16
HIERARCHIES=/sys/fs/cgroup                # of cgroups: one, or (v1) one for each controller
[[ -e $HIERARCHIES/cgroup.procs ]] || HIERARCHIES=$(echo /sys/fs/cgroup/*)

# ============================================================ outside: enter the namespaces
if [[ -z ${INSIDE:-} ]]; then
  [[ $(uname) == Linux && $(id -u) == 0 ]] || { echo "a node needs Linux and root (namespaces, cgroups, mounts)" >&2; exit 1; }
  case $D/ in /run/* | /var/lib/* | /var/log/*) echo "$D is hidden inside the node: take another directory" >&2; exit 1 ;; esac
  for p in "${PROGRAMS[@]}"; do [[ -e $BIN/$p ]] || program "$p"; done
  "$HERE/../prerequisites.sh" node
  mkdir -p "$D"/{log,run} && mkdir -p -m 1777 "$D/host"; T0=$(now)
  rm -f "$D/ready"
  # The kubelet wants its cgroup root to exist; a name of our own makes the clean-up easy.
  echo "component-lease-$$" >"$D/run/cgroup"
  for h in $HIERARCHIES; do mkdir -p "$h/component-lease-$$"; done
  setsid unshare --net --mount --pid --fork --kill-child --mount-proc \
    env INSIDE=1 "$(realpath "$0")" "$D" "$@" >"$D/log/node.log" 2>&1 </dev/null &
  echo $! >"$D/run/node.pid"
  until_ok 120 "the node" test -e "$D/ready" || { cat "$D/log/node.log" >&2; exit 1; }
  cat "$D/log/node.log"
  echo "node Ready after $(since $T0); try: $HERE/in.sh $D kubectl get nodes"
  exit
fi

# ============================================================ inside: we are PID 1 here
T0=$(now)
trap 'exit 0' TERM
export RUN=/run/component-lease                 # pids as seen from in here

# --- mounts: private to us, but shared among ourselves (volumes with propagation).
# tmpfs hides what the host has in the places that are hard-wired into containerd, its
# shims, CNI and the kubelet (/run/containerd, /run/netns, /var/lib/cni, /var/log/containers).
mount --make-rshared /
for d in /run /var/lib /var/log; do mount -t tmpfs tmpfs $d; done
mkdir -p $RUN

# --- sysctls that the kubelet insists on and that are the whole machine's: show it the
# values that it wants, so that it writes none.
for s in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1 \
         kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  f=$RUN/${s//\//.}; echo "${s#*=}" >"$f"
  mount --bind "$f" "/proc/sys/${s%=*}"
done

# --- network: the pods' bridge doubles as the node's interface. Service addresses need a
# route before they can be translated, hence the default route (which leads nowhere).
ip link set lo up
ip link add cni0 type bridge
ip addr add $ADDRESS/24 dev cni0
ip link set cni0 up
ip route add default dev cni0
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables      # or answers bypass the translation

# --- containerd
mkdir -p "$D/cni"
cat >"$D/cni/10-bridge.conflist" <<EOF
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam", "routes": [{"dst": "0.0.0.0/0"}],
            "ranges": [[{"subnet": "$PODS", "gateway": "$ADDRESS", "rangeStart": "${ADDRESS%.*}.10"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
EOF
cat >"$D/containerd.toml" <<EOF
version = 2
root = "$D/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[plugins."io.containerd.internal.v1.opt"]
  path = "$D/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true           # without CAP_SYS_RESOURCE a score cannot be lowered
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$CNI"
    conf_dir = "$D/cni"
EOF
start containerd containerd --config "$D/containerd.toml"

# --- control plane (its own script), meanwhile the images
APISERVER_FLAGS="--kubelet-preferred-address-types=InternalIP" \
CONTROLLER_FLAGS="--cluster-cidr=$PODS" "$HERE/up.sh" "$D" &
up=$!
until_ok 30 containerd ctr version
for image in "$BIN/pause.tar" "$@"; do ctr -n k8s.io images import "$image"; done
wait $up

# --- kube-proxy, DNS, kubelet
URL=https://$ADDRESS:$PORT
kubeconfig proxy /CN=system:kube-proxy
kubeconfig kubelet "/O=system:nodes/CN=system:node:$NODE"
# nf_conntrack_max belongs to the first network namespace: leave the conntrack sysctls alone.
# minSyncPeriod: at its default of 1 s the second of two label changes waits out that second.
MODE=${PROXY_MODE:-nftables}
cat >"$D/kube-proxy.yaml" <<EOF
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: $MODE
clusterCIDR: $PODS
hostnameOverride: $NODE
clientConnection: {kubeconfig: "$D/proxy.kubeconfig"}
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
$MODE: {minSyncPeriod: ${PROXY_MIN_SYNC:-20ms}}
EOF
start kube-proxy "$BIN/kube-proxy" --config "$D/kube-proxy.yaml"
cat >"$D/Corefile" <<EOF
.:53 {
  bind $ADDRESS
  errors
  kubernetes cluster.local { kubeconfig $D/admin.kubeconfig
  }
}
EOF
start coredns "$BIN/coredns" -conf "$D/Corefile"
cat >"$D/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
# Tests kill the same container again and again: it shall not wait minutes for its next start.
featureGates: {KubeletCrashLoopBackOffMax: true}
crashLoopBackOff: {maxContainerRestartPeriod: 1s}
cgroupRoot: /$(<"$D/run/cgroup")
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
address: $ADDRESS
authentication: {x509: {clientCAFile: "$D/pki/ca.crt"}}
podLogsDir: "$D/log/pods"
volumePluginDir: "$D/kubelet/volume-plugins"
resolvConf: ""
clusterDomain: cluster.local
clusterDNS: [$ADDRESS]
failSwapOn: false
makeIPTablesUtilChains: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "0%", nodefs.available: "0%", imagefs.available: "0%", nodefs.inodesFree: "0%", imagefs.inodesFree: "0%"}
EOF
start kubelet "$BIN/kubelet" --config "$D/kubelet.yaml" --kubeconfig "$D/kubelet.kubeconfig" \
  --root-dir "$D/kubelet" --cert-dir "$D/kubelet/pki" --hostname-override $NODE --node-ip $ADDRESS

K() { "$BIN/kubectl" --kubeconfig "$D/admin.kubeconfig" "$@"; }
until_ok 60 "the node" K get node $NODE
# The first service address answers once kube-proxy has done its work.
until_ok 60 "service addresses" timeout 1 bash -c ": </dev/tcp/${SERVICES%.*}.1/443"
until_ok 60 "the node to be Ready" K wait --for=condition=Ready node/$NODE --timeout=1s
echo "inside: Ready after $(since $T0)"
touch "$D/ready"

# As PID 1 of the namespace: stay, and reap (bash does, while it waits).
sleep infinity & wait
