{{/* Labels that select the pods of a pool: they never change over releases. Takes root and pool. */}}
{{- define "wordcab.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .pool }}
{{- end }}

{{/* Labels of everything but pods: a version label there would restart them for nothing. */}}
{{- define "wordcab.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "wordcab.serviceAccount" -}}
{{ .Release.Name }}-server
{{- end }}

{{- define "wordcab.locked" -}}
{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
{{- end }}

{{/* The pod template of a pool. Takes root, pool and values. */}}
{{- define "wordcab.pod" -}}
metadata:
  labels:
    {{- include "wordcab.selector" . | nindent 4 }}
spec:
  serviceAccountName: {{ include "wordcab.serviceAccount" .root }}
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 10
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    seccompProfile: {type: RuntimeDefault}
  {{- with .values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- $volume := eq .root.Values.models.as "volume" }}
  {{- if not $volume }}
  initContainers:
  - name: model
    image: {{ .root.Values.fetcher.image }}
    args: ["pull", "--model", {{ .values.model.ref | quote }}, "--to", "/models"]
    {{- if .root.Values.models.cache }}
    env:
    - {name: WCBUNDLE_MODEL_CACHE, value: /cache}
    {{- end }}
    securityContext: {{ include "wordcab.locked" . }}
    resources:
      {{- toYaml .root.Values.resources | nindent 6 }}
    volumeMounts:
    - {name: models, mountPath: /models}
    {{- if .root.Values.models.cache }}
    - {name: cache, mountPath: /cache}
    {{- end }}
  {{- end }}
  containers:
  - name: server
    image: {{ .values.image }}
    env:
    - {name: MODEL_ID, value: {{ .values.model.id | quote }}}
    - name: UPSTREAM_PASSWORD
      valueFrom: {secretKeyRef: {name: {{ .root.Release.Name }}-upstream, key: password}}
    ports:
    - {name: http, containerPort: 8080}
    securityContext: {{ include "wordcab.locked" . }}
    readinessProbe:
      httpGet: {path: /readyz, port: http}
      periodSeconds: 1
    livenessProbe:
      httpGet: {path: /healthz, port: http}
      periodSeconds: 5
    resources:
      {{- $resources := deepCopy .root.Values.resources }}
      {{- if .values.gpus }}
      {{- $_ := set $resources.limits "nvidia.com/gpu" (.values.gpus | toString) }}
      {{- end }}
      {{- toYaml $resources | nindent 6 }}
    volumeMounts:
    - {name: models, mountPath: /models, readOnly: true}
    - {name: config, mountPath: /etc/modelserver}
  volumes:
  - name: models
    {{- if $volume }}
    image: {reference: {{ .values.model.ref | quote }}, pullPolicy: IfNotPresent}
    {{- else }}
    emptyDir: {}
    {{- end }}
  {{- if and .root.Values.models.cache (not $volume) }}
  - name: cache
    hostPath: {path: {{ .root.Values.models.cache | quote }}, type: DirectoryOrCreate}
  {{- end }}
  - name: config # as a whole directory, so that the kubelet brings changes to running pods
    configMap: {name: {{ .root.Release.Name }}-{{ .pool }}}
{{- end }}
