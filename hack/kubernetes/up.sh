#!/bin/bash
# A Kubernetes control plane with no node: etcd, kube-apiserver, kube-controller-manager
# and kube-scheduler. Any user may.
#   up.sh DIR        brings it up in the (new or empty) directory DIR
#   down.sh DIR      stops it
# Listens on one loopback port only (etcd sits on a unix socket). With KUBEBUILDER_ASSETS and
# no programs of our own there is neither controller-manager nor scheduler (DIR/api-only
# says so). The caller may set, as node-up.sh does: ADDRESS PORT SERVICES APISERVER_FLAGS
# CONTROLLER_FLAGS SLICE_BATCH.
set -euo pipefail
D=${1:?usage: up.sh DIR}; mkdir -p "$D"; D=$(cd "$D" && pwd)
. "$(dirname "$0")/lib.sh"
mkdir -p "$D"/{log,pki} "$RUN"
ADDRESS=${ADDRESS:-127.0.0.1}; PORT=${PORT:-$(free_port)}; SERVICES=${SERVICES:-198.19.0.0/16}
URL=https://$ADDRESS:$PORT
T0=$(now)
etcd=$(program etcd); apiserver=$(program kube-apiserver); kubectl=$(program kubectl)
controllers=1
[[ -x $BIN/kube-controller-manager && -x $BIN/kube-scheduler ]] || {
  [[ -n ${KUBEBUILDER_ASSETS:-} ]] || { program kube-controller-manager; exit 1; }
  controllers=; touch "$D/api-only"
}

# --- keys -------------------------------------------------------------------
ca
cert apiserver /CN=kube-apiserver \
  "IP:127.0.0.1,IP:$ADDRESS,IP:${SERVICES%.*}.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
cert apiserver-kubelet /O=system:masters/CN=apiserver-kubelet        # for logs, exec, port-forward
openssl genrsa -out "$D/pki/sa.key" 2048 2>/dev/null                 # signs service-account tokens
kubeconfig admin /O=system:masters/CN=admin
kubeconfig controller-manager /CN=system:kube-controller-manager
kubeconfig scheduler /CN=system:kube-scheduler

# --- etcd: unix sockets, no fsync ---------------------------------------------
# Relative names (a socket path holds 107 characters at most) that etcd takes only
# when they look like host:port, so the two files are called client:0 and peer:0.
(cd "$RUN" && start etcd "$etcd" --data-dir "$D/etcd" --unsafe-no-fsync \
  --listen-client-urls unix://client:0 --advertise-client-urls unix://client:0 \
  --listen-peer-urls unix://peer:0 --initial-advertise-peer-urls unix://peer:0 \
  --initial-cluster default=unix://peer:0 --log-level warn)

# --- kube-apiserver ----------------------------------------------------------
# With a loopback address the "kubernetes" endpoints object would be invalid,
# hence no endpoint reconciler unless the caller gave a real address.
[[ $ADDRESS == 127.* ]] && APISERVER_FLAGS="--endpoint-reconciler-type=none ${APISERVER_FLAGS:-}"
(cd "$RUN" && start kube-apiserver "$apiserver" \
  --etcd-servers unix://client:0 \
  --bind-address "$ADDRESS" --advertise-address "$ADDRESS" --secure-port "$PORT" \
  --service-cluster-ip-range "$SERVICES" \
  --authorization-mode Node,RBAC --anonymous-auth=false \
  --tls-cert-file "$D/pki/apiserver.crt" --tls-private-key-file "$D/pki/apiserver.key" \
  --client-ca-file "$D/pki/ca.crt" \
  --kubelet-client-certificate "$D/pki/apiserver-kubelet.crt" \
  --kubelet-client-key "$D/pki/apiserver-kubelet.key" \
  --service-account-issuer https://kubernetes.default.svc \
  --service-account-key-file "$D/pki/sa.key" --service-account-signing-key-file "$D/pki/sa.key" \
  --audit-policy-file "$HERE/audit-policy.yaml" --audit-log-path "$D/log/audit.log" --audit-log-maxsize 1000 \
  ${APISERVER_FLAGS:-})

if [[ $controllers ]]; then
  # --- kube-controller-manager -----------------------------------------------
  # (At its default of 20 requests a second it takes 5 s just to start its controllers.)
  # Without a kubelet nobody renews a fake node's lease: the long grace period keeps
  # the node-lifecycle controller from declaring it dead (node-up.sh sets it back).
  # SLICE_BATCH: without a batch period the slice controller sometimes finds its cache out of
  # date after the second of two label changes and retries a second later ("0s" is stock).
  start kube-controller-manager "$(program kube-controller-manager)" \
    --kubeconfig "$D/controller-manager.kubeconfig" --secure-port 0 --leader-elect=false \
    --kube-api-qps 1000 --kube-api-burst 1000 \
    --use-service-account-credentials --service-account-private-key-file "$D/pki/sa.key" \
    --root-ca-file "$D/pki/ca.crt" --endpointslice-updates-batch-period="${SLICE_BATCH:-100ms}" \
    ${CONTROLLER_FLAGS:---node-monitor-grace-period=24h}

  # --- kube-scheduler ----------------------------------------------------------
  start kube-scheduler "$(program kube-scheduler)" --kubeconfig "$D/scheduler.kubeconfig" \
    --secure-port 0 --leader-elect=false
fi

# --- wait ----------------------------------------------------------------------
K() { "$kubectl" --kubeconfig "$D/admin.kubeconfig" "$@"; }
until_ok 60 "the API server" K get --raw /readyz
echo "API server ready after $(since "$T0"): $URL"
if [[ $controllers ]]; then
  until_ok 60 "the default service account" K -n default get serviceaccount default
  echo "controllers at work after $(since "$T0"); export KUBECONFIG=$D/admin.kubeconfig"
fi
