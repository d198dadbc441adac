{{- define "component-lease.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" }}
{{- end }}

{{- /* A release name may hold dots, a Service's may not. */}}
{{- define "component-lease.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride }}
{{- else }}
{{- $name := include "component-lease.name" . }}
{{- $release := .Release.Name | replace "." "-" }}
{{- ternary $release (printf "%s-%s" $release $name) (contains $name $release) | trunc 53 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* For objects outside the release's namespace. No namespace holds a dot, so no two releases share it. */}}
{{- define "component-lease.clusterName" -}}
{{- printf "%s.%s" .Release.Namespace (include "component-lease.fullname" .) }}
{{- end }}

{{- define "component-lease.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "component-lease.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name must name an existing account when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* How the API server names that account. */}}
{{- define "component-lease.username" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "component-lease.serviceAccountName" . }}
{{- end }}

{{- define "component-lease.selectorLabels" -}}
app.kubernetes.io/name: {{ include "component-lease.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* What the chart says wins over commonLabels: selectors go by it. */}}
{{- define "component-lease.labels" -}}
{{- $ours := include "component-lease.ownLabels" . | fromYaml }}
{{- merge (dict) $ours .Values.commonLabels | toYaml }}
{{- end }}

{{- define "component-lease.ownLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "component-lease.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "component-lease.image" -}}
{{- $name := list .Values.image.registry .Values.image.repository | compact | join "/" }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $name .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $name (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "component-lease.replicas" -}}
{{- .Values.replicas | default (ternary 1 2 (eq .Values.store "sqlite")) | int }}
{{- end }}

{{- /* CEL: whether the key `k` of a pod's label is ours. The schema lets no quote into a prefix. */}}
{{- define "component-lease.ourLabel" -}}
k.startsWith('componentlease.io/')
{{- range .Values.allowedLabelPrefixes }} || k.startsWith('{{ . }}'){{ end }}
{{- end }}

{{- /* CEL: whether the key `k` of a pod's annotation is ours to write (src/routing/decide/marks.rs). */}}
{{- define "component-lease.ourAnnotation" -}}
k.startsWith('componentlease.io/') || k == 'controller.kubernetes.io/pod-deletion-cost'
{{- end }}

{{- /* What the schema cannot say in words that help. */}}
{{- define "component-lease.validate" -}}
{{- $v := .Values }}
{{- if eq $v.store "" }}
{{- fail "\n\nstore is not set. There is no default store:\n  store=postgres  with database.existingSecret.name, a Secret whose key \"url\" is postgres://user@host:5432/db\n  store=mysql     likewise with mysql://user@host:3306/db, also for MariaDB\n  store=sqlite    for one machine only, see sqlite.* in values.yaml\n" }}
{{- end }}
{{- if or (eq $v.store "postgres") (eq $v.store "mysql") }}
{{- if not $v.database.existingSecret.name }}
{{- fail (printf "\n\nstore=%s needs database.existingSecret.name, a Secret in this namespace whose key holds the URL:\n  kubectl create secret generic component-lease-db --from-literal=url='%s://user@host:%d/db'\n" $v.store $v.store (ternary 3306 5432 (eq $v.store "mysql"))) }}
{{- end }}
{{- if and (eq $v.store "mysql") $v.database.directSecret.name }}
{{- fail "database.directSecret is for PostgreSQL behind a connection pooler: remove it" }}
{{- end }}
{{- if and $v.database.tls.secret $v.database.tls.configMap }}
{{- fail "database.tls.secret and database.tls.configMap are mounted in the same place: set one of them" }}
{{- end }}
{{- if and $v.database.tls.caKey (not (or $v.database.tls.secret $v.database.tls.configMap)) }}
{{- fail "database.tls.caKey is a key of database.tls.secret or database.tls.configMap: set one of them" }}
{{- end }}
{{- if or $v.sqlite.existingClaim $v.sqlite.nodeName $v.sqlite.acknowledgeSingleNode }}
{{- fail (printf "sqlite.* is set but store is %s: remove one of them" $v.store) }}
{{- end }}
{{- end }}
{{- if eq $v.store "sqlite" }}
{{- if or $v.database.existingSecret.name $v.database.directSecret.name $v.database.passwordSecret.name $v.database.tls.secret $v.database.tls.configMap $v.database.tls.caKey }}
{{- fail "database.* is set but store is sqlite: remove one of them" }}
{{- end }}
{{- if not $v.sqlite.acknowledgeSingleNode }}
{{- fail "\n\nstore=sqlite is for one machine: every participant has to run on the node of the volume, and nothing is elected while that node is down.\nSet sqlite.acknowledgeSingleNode=true if that is what you want, or use store=postgres or store=mysql.\n" }}
{{- end }}
{{- if not $v.sqlite.existingClaim }}
{{- fail "store=sqlite needs sqlite.existingClaim, a PersistentVolumeClaim in this namespace that the participants mount too" }}
{{- end }}
{{- if not $v.sqlite.nodeName }}
{{- fail "store=sqlite needs sqlite.nodeName, the node that has the volume" }}
{{- end }}
{{- if $v.topologySpreadConstraints }}
{{- fail "topologySpreadConstraints cannot be set with store=sqlite: sqlite.nodeName already says where the controller runs" }}
{{- end }}
{{- if $v.affinity }}
{{- fail "affinity cannot be set with store=sqlite: sqlite.nodeName already says where the controller runs" }}
{{- end }}
{{- end }}
{{- range $v.allowedLabelPrefixes }}
{{- if regexMatch "^([^/]*\\.)?(kubernetes|k8s)\\.io/" . }}
{{- fail (printf "allowedLabelPrefixes: %q is Kubernetes' own. Workloads and Services select by such labels; choose a domain of yours" .) }}
{{- end }}
{{- end }}
{{- $taken := list "POD_NAME" "POD_NAMESPACE" "POD_UID" }}
{{- range $v.extraEnv }}
{{- if or (has .name $taken) (and (hasPrefix "COMPONENT_LEASE_" .name) (not (has .name (list "COMPONENT_LEASE_APPLICATION_NAME")))) }}
{{- fail (printf "extraEnv: %s is set by this chart; use the value for it, or extraArgs for a flag that has no value" .name) }}
{{- end }}
{{- end }}
{{- if and $v.metrics.serviceMonitor.enabled $v.metrics.podMonitor.enabled }}
{{- fail "metrics.serviceMonitor and metrics.podMonitor would scrape the same pods twice: enable one of them" }}
{{- end }}
{{- if and $v.metrics.serviceMonitor.enabled (not $v.metrics.service.enabled) }}
{{- fail "metrics.serviceMonitor.enabled needs metrics.service.enabled: it finds the pods through that Service" }}
{{- end }}
{{- end }}
