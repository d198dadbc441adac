{{- /* What the controller and the pod of `helm test` have in common. */}}

{{- /* Where the database is, and whether it may forget. */}}
{{- define "component-lease.databaseEnv" -}}
{{- $sqlite := eq .Values.store "sqlite" }}
{{- $database := .Values.database -}}
{{- if $sqlite }}
- name: COMPONENT_LEASE_DATABASE_URL
  value: {{ printf "sqlite:///var/lib/component-lease/%s" .Values.sqlite.path | quote }}
{{- else }}
- name: COMPONENT_LEASE_DATABASE_URL_FILE
  value: {{ printf "/etc/component-lease/database/%s" $database.existingSecret.key | quote }}
{{- if $database.directSecret.name }}
- name: COMPONENT_LEASE_DIRECT_DATABASE_URL_FILE
  value: {{ printf "/etc/component-lease/direct/%s" $database.directSecret.key | quote }}
{{- end }}
{{- if $database.passwordSecret.name }}
- name: COMPONENT_LEASE_DATABASE_PASSWORD_FILE
  value: {{ printf "/etc/component-lease/password/%s" $database.passwordSecret.key | quote }}
{{- end }}
{{- if $database.tls.caKey }}
- name: COMPONENT_LEASE_DATABASE_CA_FILE
  value: {{ printf "/etc/component-lease/tls/%s" $database.tls.caKey | quote }}
{{- end }}
{{- end }}
{{- if .Values.allowUnsafeBackend }}
- name: COMPONENT_LEASE_ALLOW_UNSAFE_BACKEND
  value: "true"
{{- end }}
{{- end }}

{{- /* The files that those variables name. */}}
{{- define "component-lease.databaseMounts" -}}
{{- $sqlite := eq .Values.store "sqlite" }}
{{- $database := .Values.database -}}
{{- if $sqlite }}
- name: data
  mountPath: /var/lib/component-lease
{{- else }}
# Whole folders: a single file mounted by subPath would never be rotated.
- name: database
  mountPath: /etc/component-lease/database
  readOnly: true
{{- if $database.directSecret.name }}
- name: direct
  mountPath: /etc/component-lease/direct
  readOnly: true
{{- end }}
{{- if $database.passwordSecret.name }}
- name: password
  mountPath: /etc/component-lease/password
  readOnly: true
{{- end }}
{{- if or $database.tls.secret $database.tls.configMap }}
- name: tls
  mountPath: /etc/component-lease/tls
  readOnly: true
{{- end }}
{{- end }}
{{- end }}

{{- /* Their volumes. */}}
{{- define "component-lease.databaseVolumes" -}}
{{- $sqlite := eq .Values.store "sqlite" }}
{{- $database := .Values.database -}}
{{- if $sqlite }}
- name: data
  persistentVolumeClaim:
    claimName: {{ .Values.sqlite.existingClaim }}
{{- else }}
- name: database
  secret:
    secretName: {{ $database.existingSecret.name }}
    defaultMode: 0440
    items: [{ key: {{ $database.existingSecret.key | quote }}, path: {{ $database.existingSecret.key | quote }} }]
{{- if $database.directSecret.name }}
- name: direct
  secret:
    secretName: {{ $database.directSecret.name }}
    defaultMode: 0440
    items: [{ key: {{ $database.directSecret.key | quote }}, path: {{ $database.directSecret.key | quote }} }]
{{- end }}
{{- if $database.passwordSecret.name }}
- name: password
  secret:
    secretName: {{ $database.passwordSecret.name }}
    defaultMode: 0440
    items: [{ key: {{ $database.passwordSecret.key | quote }}, path: {{ $database.passwordSecret.key | quote }} }]
{{- end }}
{{- if $database.tls.secret }}
- name: tls
  secret:
    secretName: {{ $database.tls.secret }}
    defaultMode: 0440
{{- else if $database.tls.configMap }}
- name: tls
  configMap:
    name: {{ $database.tls.configMap }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Pod Security restricted. */}}
{{- define "component-lease.podSecurity" -}}
{{- $sqlite := eq .Values.store "sqlite" }}
{{- $database := .Values.database -}}
runAsNonRoot: true
{{- /* null: OpenShift chooses them from the namespace's range. */}}
{{- with .Values.runAs.user }}
runAsUser: {{ . | int64 }}
{{- end }}
{{- with .Values.runAs.group }}
runAsGroup: {{ . | int64 }}
{{- end }}
{{- with .Values.runAs.fsGroup }}
fsGroup: {{ . | int64 }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- /* Likewise. */}}
{{- define "component-lease.containerSecurity" -}}
{{- $sqlite := eq .Values.store "sqlite" }}
{{- $database := .Values.database -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* The one machine of a SQLite file. */}}
{{- define "component-lease.sqliteNode" -}}
{{- $sqlite := eq .Values.store "sqlite" }}
{{- $database := .Values.database -}}
# By the node's own name: its host name label may differ.
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchFields:
            - { key: metadata.name, operator: In, values: [{{ .Values.sqlite.nodeName | quote }}] }
{{- end }}

