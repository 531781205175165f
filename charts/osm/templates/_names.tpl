{{- define "osm.namespace" -}}
{{ .Values.osm.osmNamespace | default .Release.Namespace }}
{{- end }}

{{- define "osm.labels" -}}
app.kubernetes.io/name: openservicemesh.io
app.kubernetes.io/instance: {{ .Values.osm.meshName }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "osm.mutatingWebhook" -}}
{{ .Values.osm.webhookConfigNamePrefix }}-{{ .Values.osm.meshName }}
{{- end }}

{{- define "osm.validatingWebhook" -}}
{{ .Values.osm.validatorWebhook.webhookConfigurationName | default (printf "osm-validator-mesh-%s" .Values.osm.meshName) }}
{{- end }}

{{- define "osm.controllerImage" -}}
{{ .Values.osm.image.registry }}/{{ .Values.osm.image.name.osmController }}
{{- with .Values.osm.image.digest.osmController }}@{{ . }}{{ else }}:{{ .Values.osm.image.tag }}{{ end }}
{{- end }}

{{- define "osm.sidecarImage" -}}
{{- if .Values.osm.sidecarImage }}
{{- .Values.osm.sidecarImage }}
{{- else }}
{{- .Values.osm.image.registry }}/{{ .Values.osm.image.name.osmSidecar }}
{{- with .Values.osm.image.digest.osmSidecar }}@{{ . }}{{ else }}:{{ .Values.osm.image.tag }}{{ end }}
{{- end }}
{{- end }}

{{- define "osm.initImage" -}}
{{ .Values.osm.image.registry }}/{{ .Values.osm.image.name.osmSidecarInit }}
{{- with .Values.osm.image.digest.osmSidecarInit }}@{{ . }}{{ else }}:{{ .Values.osm.image.tag }}{{ end }}
{{- end }}

{{- define "osm.priorityClass" -}}
{{ .Values.osm.priorityClassName | default (printf "osm-control-plane-%s" .Values.osm.meshName) }}
{{- end }}

{{- define "osm.meshNamespaces" -}}
matchLabels:
  openservicemesh.io/monitored-by: {{ .Values.osm.meshName }}
matchExpressions:
- {key: openservicemesh.io/ignore, operator: DoesNotExist}
- {key: control-plane, operator: DoesNotExist}
- {key: kubernetes.io/metadata.name, operator: NotIn, values: [kube-system, kube-public, {{ include "osm.namespace" . }}]}
{{- end }}
