{{/* The operator's objects are named after the release: ca-iot-operator. */}}
{{- define "ca-iot.operator" -}}
{{ .Release.Name | trunc 54 | trimSuffix "-" }}-operator
{{- end }}

{{/* Names in the cluster's own scope also carry the namespace, so that releases do not meet. */}}
{{- define "ca-iot.clusterWide" -}}
{{ include "ca-iot.operator" . }}-{{ .Release.Namespace }}
{{- end }}

{{/* The hook that upgrades the custom resource definitions. */}}
{{- define "ca-iot.crds" -}}
{{ .Release.Name | trunc 58 | trimSuffix "-" }}-crds
{{- end }}

{{- define "ca-iot.selectorLabels" -}}
app.kubernetes.io/name: operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ca-iot.releaseLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: ca-iot
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "ca-iot.labels" -}}
{{ include "ca-iot.selectorLabels" . }}
{{ include "ca-iot.releaseLabels" . }}
{{- end }}

{{/* What is asked for as list of reference and name: the reference if there is one, else ca-iot/<name>:<appVersion>. */}}
{{- define "ca-iot.image" -}}
{{- $reference := index . 0 }}{{ $name := index . 1 }}{{ $root := index . 2 -}}
{{ $reference | default (printf "ca-iot/%s:%s" $name $root.Chart.AppVersion) }}
{{- end }}

{{/* Both halves of Pod Security "restricted" that every pod of this chart has. */}}
{{- define "ca-iot.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "ca-iot.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
