{{/* Prefix of all names. */}}
{{- define "fairlane.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels of every object. Selectors and pod templates have few labels of their own, which never change. */}}
{{- define "fairlane.labels" -}}
app.kubernetes.io/part-of: fairlane
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "fairlane.image" -}}
{{- $repository := required "image.repository: name the image that `docker build --target fairlane .` made and you pushed, such as registry.example.org/fairlane" .Values.image.repository -}}
{{- printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{- define "fairlane.secretName" -}}
{{- .Values.auth.existingSecret | default (include "fairlane.fullname" .) -}}
{{- end -}}

{{- define "fairlane.accountName" -}}
{{- .Values.serviceAccount.name | default (printf "%s-worker" (include "fairlane.fullname" .)) -}}
{{- end -}}

{{- define "fairlane.buildsNamespace" -}}
{{- .Values.builds.namespace | default (printf "%s-builds" .Release.Namespace) -}}
{{- end -}}

{{/* Path of the container engine's socket, or `none`. */}}
{{- define "fairlane.socket" -}}
{{- $builder := .Values.builder -}}
{{- if .Values.builds.socket -}}
{{- .Values.builds.socket -}}
{{- else if eq $builder "dind" -}}
/var/run/dind/docker.sock
{{- else if eq $builder "pink" -}}
/var/run/pink/podman.sock
{{- else if eq $builder "host" -}}
/var/run/docker.sock
{{- else if eq $builder "docker-api" -}}
{{- $namespace := .Values.builds.dockerApiNamespace | default (include "fairlane.buildsNamespace" .) -}}
{{- printf "/var/run/%s-%s/docker-api/docker-api.sock" $namespace .Values.builds.dockerApiRelease -}}
{{- else -}}
none
{{- end -}}
{{- end -}}

{{/* Label selector of the pods that run a container engine; empty for the program's default. */}}
{{- define "fairlane.selector" -}}
{{- if .Values.builds.selector -}}
{{- .Values.builds.selector -}}
{{- else if eq .Values.builder "docker-api" -}}
app.kubernetes.io/component=docker-api
{{- end -}}
{{- end -}}

{{- define "fairlane.dispatcherUrl" -}}
{{- $scheme := ternary "https" "http" (ne .Values.dispatcher.tlsSecret "") -}}
{{- printf "%s://%s-dispatcher:%v" $scheme (include "fairlane.fullname" .) .Values.dispatcher.service.port -}}
{{- end -}}

{{/* Variables for connecting to Redis, of a dispatcher or a worker: (list . "worker"). */}}
{{- define "fairlane.redisEnv" -}}
{{- $role := index . 1 -}}
{{- with index . 0 -}}
{{- $secret := include "fairlane.secretName" . -}}
{{- $user := "" -}}
{{- $key := "redis-password" -}}
{{- if not .Values.redis.enabled -}}
{{- $secret = .Values.redis.existingSecret -}}
{{- else if .Values.redis.acl -}}
{{- $user = printf "fairlane-%s" $role -}}
{{- $key = printf "redis-%s-password" $role -}}
{{- end -}}
{{- if $secret }}
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ $key }}
{{- end }}
- name: FAIRLANE_REDIS_URL
{{- if .Values.redis.enabled }}
  value: redis://{{ $user }}:$(REDIS_PASSWORD)@{{ include "fairlane.fullname" . }}-redis:6379
{{- else }}
  value: {{ .Values.redis.url | quote }}
{{- end }}
{{- if ne .Values.redis.prefix "fairlane" }}
- name: FAIRLANE_PREFIX
  value: {{ .Values.redis.prefix | quote }}
{{- end }}
{{- if .Values.redis.caSecret }}
- name: SSL_CERT_FILE
  value: /etc/fairlane/redis-ca/ca.crt
{{- end }}
{{- end -}}
{{- end -}}

{{/* Redis's users of Fairlane as YAML: their rights by role. `fairlane doctor --print-acl` has the same ones. */}}
{{- define "fairlane.redisUsers" -}}
{{- $prefix := .Values.redis.prefix -}}
{{- range .Files.Lines "files/redis.acl" -}}
{{- if and . (not (hasPrefix "#" .)) }}
{{ splitList " " . | first }}: {{ splitList " " . | rest | join " " | replace "PREFIX" $prefix | quote }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Variables that dispatchers and workers share. */}}
{{- define "fairlane.sharedEnv" -}}
- name: FAIRLANE_SEAL_KEY
  valueFrom:
    secretKeyRef:
      name: {{ include "fairlane.secretName" . }}
      key: seal-key
- name: FAIRLANE_LOG_FORMAT
  value: {{ .Values.log.format }}
{{- with .Values.log.filter }}
- name: FAIRLANE_LOG
  value: {{ . | quote }}
{{- end }}
{{- with .Values.tracing.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- with .Values.builds.allowArgs }}
- name: FAIRLANE_ALLOW_ARGS
  value: {{ join "," . | quote }}
{{- end }}
{{- end -}}

{{/* Variables by which a worker, and `fairlane doctor` beside it, knows where it builds. */}}
{{- define "fairlane.buildEnv" -}}
- name: FAIRLANE_EXECUTOR
  value: kubernetes
- name: FAIRLANE_NAMESPACE
  value: {{ include "fairlane.buildsNamespace" . }}
{{- /* Tells the pods of several releases apart; one named fairlane keeps the pods that the manifests made. */}}
{{- if ne (include "fairlane.fullname" .) "fairlane" }}
- name: FAIRLANE_INSTALLATION
  value: {{ include "fairlane.fullname" . }}
{{- end }}
- name: FAIRLANE_BUILD_IMAGE
  value: {{ .Values.builds.image | quote }}
- name: FAIRLANE_DOCKER_SOCKET
  value: {{ include "fairlane.socket" . }}
{{- with include "fairlane.selector" . }}
- name: FAIRLANE_BUILDERS
  value: {{ . | quote }}
{{- end }}
{{- with .Values.builds.command }}
- name: FAIRLANE_COMMAND
  value: {{ . | quote }}
{{- end }}
{{- if .Values.builds.replaceEntrypoint }}
- name: FAIRLANE_REPLACE_ENTRYPOINT
  value: "true"
{{- end }}
{{- with .Values.builds.pushSecret }}
- name: FAIRLANE_PUSH_SECRET
  value: {{ . | quote }}
{{- end }}
{{- if .Values.builds.sticky }}
- name: FAIRLANE_STICKY_BUILDS
  value: "true"
{{- end }}
- name: FAIRLANE_POD_TEMPLATE
  value: /etc/fairlane/pod/pod.yaml
- name: FAIRLANE_DISPATCHER_URL
  value: {{ include "fairlane.dispatcherUrl" . }}
{{- if .Values.dispatcher.caConfigMap }}
- name: FAIRLANE_CA
  value: /etc/fairlane/ca/ca.crt
{{- end }}
{{- end -}}

{{/* Files of a worker, and of `fairlane doctor` beside it. */}}
{{- define "fairlane.buildMounts" -}}
- name: pod-template
  mountPath: /etc/fairlane/pod
  readOnly: true
{{- if .Values.dispatcher.caConfigMap }}
- name: ca
  mountPath: /etc/fairlane/ca
  readOnly: true
{{- end }}
{{- if .Values.builds.registryConfigSecret }}
- name: registry
  mountPath: /etc/fairlane/registry
  readOnly: true
{{- end }}
{{ include "fairlane.redisMounts" . }}
{{- end -}}

{{- define "fairlane.buildVolumes" -}}
- name: pod-template
  configMap:
    name: {{ include "fairlane.fullname" . }}-pod-template
{{- with .Values.dispatcher.caConfigMap }}
- name: ca
  configMap:
    name: {{ . }}
{{- end }}
{{- with .Values.builds.registryConfigSecret }}
- name: registry
  secret:
    secretName: {{ . }}
{{- end }}
{{ include "fairlane.redisVolumes" . }}
{{- end -}}

{{- define "fairlane.redisMounts" -}}
{{- if .Values.redis.caSecret -}}
- name: redis-ca
  mountPath: /etc/fairlane/redis-ca
  readOnly: true
{{- end -}}
{{- end -}}

{{- define "fairlane.redisVolumes" -}}
{{- with .Values.redis.caSecret -}}
- name: redis-ca
  secret:
    secretName: {{ . }}
    items:
      - key: ca.crt
        path: ca.crt
{{- end -}}
{{- end -}}

{{/* What Pod Security `restricted` asks of a pod, for Fairlane's image. */}}
{{- define "fairlane.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "fairlane.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: ["ALL"]
{{- end -}}

{{/* Where pods go: the values of one component. */}}
{{- define "fairlane.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "fairlane.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}
