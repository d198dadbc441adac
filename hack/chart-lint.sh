#!/usr/bin/env bash
# Checks the chart without a cluster: lint, render, golden files, refusals.
#   hack/chart-lint.sh            fails with what is wrong
#   hack/chart-lint.sh --update   rewrites tests/chart/golden/ first; read the diff
# Helm: $HELM, else the one that this project builds, else the one on the PATH.
set -euo pipefail
cd "$(dirname "$0")/.."

chart=charts/component-lease
golden=tests/chart/golden
built=$(hack/kubernetes/build.sh --folder)/helm
if [[ -n ${HELM:-} ]]; then :
elif [[ -x $built ]]; then HELM=$built
elif ! HELM=$(command -v helm); then
  echo "chart-lint: no helm: set HELM, or run hack/kubernetes/build.sh" >&2
  exit 1
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Neither the caller's repositories nor his plugins have a say here.
export HELM_CONFIG_HOME=$scratch HELM_CACHE_HOME=$scratch HELM_DATA_HOME=$scratch

passed=0 failed=0
pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAILED: $1" >&2; [[ -z ${2:-} ]] || sed 's/^/    /' "$2" >&2; }

render() { "$HELM" template demo "$chart" --namespace leases --kube-version 1.35.0 "$@"; }
least=(-f "$chart/ci/default-postgres.yaml")

# --- what must render ---------------------------------------------------------
mkdir -p "$golden"
for values in "$chart"/ci/*.yaml; do
  name=$(basename "$values" .yaml)
  if "$HELM" lint --strict "$chart" --namespace leases -f "$values" >"$scratch/out" 2>&1; then pass
  else fail "helm lint with ci/$name.yaml" "$scratch/out"; fi

  if ! render -f "$values" >"$scratch/$name.yaml" 2>"$scratch/out"; then
    fail "helm template with ci/$name.yaml" "$scratch/out"; continue
  fi
  [[ ${1:-} != --update ]] || cp "$scratch/$name.yaml" "$golden/$name.yaml"
  if diff -u "$golden/$name.yaml" "$scratch/$name.yaml" >"$scratch/out" 2>&1; then pass
  else fail "ci/$name.yaml renders otherwise than $golden/$name.yaml (--update accepts it)" "$scratch/out"; fi

  # Every RBAC rule stands under a comment that names the code which needs it.
  if awk '/- apiGroups:/ && /\[/ && kind ~ /Role$/ { rules++; if (!comment) { print; bad = 1 } }
          /^ *#/ { if (/src\//) comment = 1; next } { comment = 0 }
          /^kind:/ { kind = $2 }
          END { exit bad || !rules }' "$scratch/$name.yaml" >"$scratch/out"; then pass
  else fail "ci/$name.yaml: an RBAC rule without a comment that names its code" "$scratch/out"; fi

  # Nothing on secrets, no wildcard, no delete.
  if awk '/^kind:/ { kind = $2 } kind ~ /Role$/ && /^ *(resources|verbs|apiGroups|- apiGroups):/ && /secrets|\*|delete/ { print; bad = 1 }
          END { exit bad }' "$scratch/$name.yaml" >"$scratch/out"; then pass
  else fail "ci/$name.yaml: an RBAC rule grants too much" "$scratch/out"; fi
done

# --- what must be there or not --------------------------------------------------
has() { # DESCRIPTION yes|no PATTERN ARGUMENT... : whether the rendered chart holds a line like PATTERN
  local what=$1 wanted=$2 pattern=$3 found=no; shift 3
  if ! render "$@" >"$scratch/render" 2>"$scratch/out"; then fail "$what: does not render" "$scratch/out"; return; fi
  if grep -Eq -- "$pattern" "$scratch/render"; then found=yes; fi
  if [[ $found == "$wanted" ]]; then pass; else fail "$what (looked for: $pattern)"; fi
}
pdb='^kind: PodDisruptionBudget$'
has "the longest ttl reaches the controller" yes 'value: "120"' "${least[@]}" --set maxTtlSeconds=120
has "a backend that forgets is refused unless it is wanted" no 'ALLOW_UNSAFE_BACKEND' "${least[@]}"
has "MySQL is reached at its own port" yes 'port: 3306' -f "$chart/ci/mysql.yaml" --set networkPolicy.egress.enabled=true
has "probes are served on all addresses, IPv6 and IPv4" yes 'value: "\[::\]:8080"' "${least[@]}"
has "probes can be served on IPv4 alone" yes 'value: "0\.0\.0\.0:8080"' "${least[@]}" --set listenAddress=0.0.0.0
has "two replicas have a disruption budget" yes "$pdb" "${least[@]}"
has "one replica has no disruption budget" no "$pdb" "${least[@]}" --set replicas=1
has "SQLite runs one replica unless told otherwise" yes '^  replicas: 1$' -f "$chart/ci/sqlite.yaml"
has "SQLite with two replicas renders" yes '^  replicas: 2$' -f "$chart/ci/sqlite.yaml" --set replicas=2
has "a list of namespaces grants nothing cluster-wide" no '^kind: ClusterRole' -f "$chart/ci/namespaces.yaml"
has "all namespaces are watched by a ClusterRole" yes '^kind: ClusterRole$' "${least[@]}"
has "managed Services can be written" yes 'apply.rs: managed Services' "${least[@]}"
has "without managed Services none can be written" no 'managed Services|leases\.demo-component-lease\.services' "${least[@]}" --set managedServices=false
has "the resource definition belongs to no release" no '^kind: CustomResourceDefinition$' "${least[@]}"
has "a digest wins over a tag" yes 'image: "r@sha256:0{64}"' "${least[@]}" --set image.repository=r,image.tag=t \
  --set image.digest=sha256:"$(printf '0%.0s' {1..64})"
has "the admission policy can be left out" no '^kind: ValidatingAdmissionPolicy' "${least[@]}" --set admissionPolicy.enabled=false
has "a prefix reaches the admission policy" yes "startsWith\\('example.com/'\\)" "${least[@]}" --set 'allowedLabelPrefixes={example.com/}'
has "a prefix reaches the controller" yes 'value: "example.com/,a.b/c-"' "${least[@]}" --set 'allowedLabelPrefixes={example.com/,a.b/c-}'
has "allowed components reach the controller" yes 'value: "shop=payments,b=old/x"' "${least[@]}" \
  --set-json 'allowedComponents=[{"namespace":"shop","component":"payments"},{"namespace":"b","component":"old/x"}]'
has "nobody may claim a foreign component unless it is said" no 'ALLOWED_COMPONENTS' "${least[@]}"
has "an existing account is not made" no '^kind: ServiceAccount$' "${least[@]}" --set serviceAccount.create=false,serviceAccount.name=given
has "the policy is for the account in use" yes 'system:serviceaccount:leases:given' "${least[@]}" --set serviceAccount.create=false,serviceAccount.name=given
if "$HELM" show crds "$chart" | grep -q 'name: componentleases.componentlease.io'; then pass
else fail "the chart does not carry the resource definition"; fi
if [[ ! -d crds ]] || cmp -s crds/componentleases.componentlease.io.yaml "$chart/crds/componentleases.componentlease.io.yaml"; then pass
else fail "crds/ and $chart/crds/ differ: both are written by \`component-lease crd\`"; fi
# A file that a comment names and nobody has is a comment about nothing.
for file in $(grep -rhoE 'src/[a-z_/]+\.rs' "$chart/templates" | sort -u); do
  if [[ ! -d src/controller || -f $file ]]; then pass
  else fail "the chart's templates name $file, which does not exist"; fi
done

# --- what must be refused, and with which words --------------------------------------
refuse() { # DESCRIPTION MESSAGE ARGUMENT...
  local what=$1 message=$2; shift 2
  if render "$@" >/dev/null 2>"$scratch/out"; then fail "$what: was accepted"
  elif grep -Eq -- "$message" "$scratch/out"; then pass
  else fail "$what: refused, but not with \"$message\"" "$scratch/out"; fi
}
sqlite=(--set store=sqlite,sqlite.existingClaim=c,sqlite.nodeName=n,sqlite.acknowledgeSingleNode=true)
refuse "no store" 'There is no default store'
refuse "an unknown store" "/store.*(must be one of|one of)" --set store=oracle
refuse "MySQL without a secret" "from-literal=url='mysql://user@host:3306/db'" --set store=mysql
refuse "a longest ttl that no lease may have" 'maxTtlSeconds' "${least[@]}" --set maxTtlSeconds=4
refuse "PostgreSQL without a secret" 'needs database.existingSecret.name' --set store=postgres
refuse "SQLite without acknowledgement" 'Set sqlite.acknowledgeSingleNode=true' "${sqlite[@]}" --set sqlite.acknowledgeSingleNode=false
refuse "SQLite without a claim" 'needs sqlite.existingClaim' "${sqlite[@]}" --set sqlite.existingClaim=
refuse "SQLite without a node" 'needs sqlite.nodeName' "${sqlite[@]}" --set sqlite.nodeName=
refuse "SQLite with an affinity" 'affinity cannot be set with store=sqlite' "${sqlite[@]}" --set-json 'affinity={"podAffinity":{}}'
refuse "SQLite with a database secret" 'database.\* is set but store is sqlite' "${sqlite[@]}" --set database.existingSecret.name=x
refuse "SQLite with a path that leaves the claim" "/sqlite/path" "${sqlite[@]}" --set sqlite.path=../x.db
refuse "PostgreSQL with a claim" 'sqlite.\* is set but store is postgres' "${least[@]}" --set sqlite.existingClaim=c
refuse "two sources of certificates" 'set one of them' "${least[@]}" --set database.tls.secret=a,database.tls.configMap=b
refuse "a key of no certificates" "database.tls.caKey is a key of" "${least[@]}" --set database.tls.caKey=ca.crt
refuse "an unknown key" "additional properties 'storage' not allowed" "${least[@]}" --set storage=x
refuse "an unknown key further down" "additional properties 'existingsecret' not allowed" "${least[@]}" --set database.existingsecret.name=x
refuse "a word for a number" '/replicas' "${least[@]}" --set replicas=two
refuse "no replica" '/replicas' "${least[@]}" --set replicas=0
refuse "a label prefix without a domain" '/allowedLabelPrefixes/0' "${least[@]}" --set 'allowedLabelPrefixes={app}'
refuse "a label prefix with a quote" '/allowedLabelPrefixes/0' "${least[@]}" --set "allowedLabelPrefixes={a.b/c') || true || ('}"
refuse "a label prefix of Kubernetes" "is Kubernetes' own" "${least[@]}" --set 'allowedLabelPrefixes={app.kubernetes.io/}'
refuse "an IPv6 address without brackets" '/listenAddress' "${least[@]}" --set listenAddress=::
refuse "an address with a port" '/listenAddress' "${least[@]}" --set listenAddress=0.0.0.0:80
refuse "an allowed component for any namespace" 'namespace' "${least[@]}" --set-json 'allowedComponents=[{"component":"payments"}]'
refuse "an allowed component for every namespace" '/allowedComponents/0/namespace' "${least[@]}" --set-json 'allowedComponents=[{"namespace":"*","component":"payments"}]'
refuse "an allowed component that is a list" '/allowedComponents/0/component' "${least[@]}" --set-json 'allowedComponents=[{"namespace":"a","component":"x,b=y"}]'
refuse "a namespace twice" '/watch/namespaces' "${least[@]}" --set 'watch.namespaces={a,a}'
refuse "a namespace that cannot exist" '/watch/namespaces/0' "${least[@]}" --set 'watch.namespaces={A_b}'
refuse "no account" 'must name an existing account' "${least[@]}" --set serviceAccount.create=false
refuse "a monitor without its Service" 'needs metrics.service.enabled' "${least[@]}" --set metrics.serviceMonitor.enabled=true,metrics.service.enabled=false
refuse "an old Kubernetes" 'incompatible with Kubernetes v?1.32' "${least[@]}" --kube-version 1.32.9

echo "chart-lint: $passed passed, $failed failed ($("$HELM" version --short))"
((failed == 0))
