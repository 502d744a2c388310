{{/* Contradictions between values: each is refused with the path of the value and what is allowed. */}}
{{- define "fairlane.checks" -}}
{{- $v := .Values -}}
{{- include "fairlane.checks.builder" . -}}
{{- include "fairlane.checks.redis" . -}}
{{- include "fairlane.checks.auth" . -}}
{{- range $name := list "dispatcher" "worker" -}}
{{- $part := index $v $name -}}
{{- if gt ($part.autoscaling.min | int) ($part.autoscaling.max | int) -}}
{{- fail (printf "%s.autoscaling.min: %v is more than %s.autoscaling.max, which is %v" $name $part.autoscaling.min $name $part.autoscaling.max) -}}
{{- end -}}
{{- range $index, $variable := $part.extraEnv -}}
{{- if has $variable.name (include "fairlane.ownVariables" $ | fromYamlArray) -}}
{{- fail (printf "%s.extraEnv[%d]: this chart has a value for %s; set that instead (docs/helm.md)" $name $index $variable.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $v.worker.autoscaling.enabled $v.dispatcher.tlsSecret -}}
{{- fail "worker.autoscaling.enabled: KEDA would send its token to a certificate that it does not check; leave dispatcher.tlsSecret empty and serve TLS at the ingress, or scale by hand" -}}
{{- end -}}
{{- if and $v.dispatcher.caConfigMap (not $v.dispatcher.tlsSecret) -}}
{{- fail "dispatcher.caConfigMap: only used with dispatcher.tlsSecret, which is empty" -}}
{{- end -}}
{{- if and $v.dispatcher.basePath (not (hasPrefix "/" $v.dispatcher.basePath)) -}}
{{- fail "dispatcher.basePath: must begin with /, such as /services/fairlane" -}}
{{- end -}}
{{- if and (not $v.serviceAccount.create) (not $v.serviceAccount.name) -}}
{{- fail "serviceAccount.name: name the existing service account of the workers, or leave serviceAccount.create true" -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.ingress.host) -}}
{{- fail "ingress.host: name the host at which the page is published" -}}
{{- end -}}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs: name at least one Gateway" -}}
{{- end -}}
{{- range $key := list "endpoint" "region" "secret" -}}
{{- if and (index $v.logArchive $key) (not $v.logArchive.url) -}}
{{- fail (printf "logArchive.%s: only used with logArchive.url, which is empty" $key) -}}
{{- end -}}
{{- end -}}
{{- if and $v.networkPolicy.buildEgress (not $v.networkPolicy.restrictBuildEgress) -}}
{{- fail "networkPolicy.buildEgress: only used with networkPolicy.restrictBuildEgress: true" -}}
{{- end -}}
{{- end -}}

{{- define "fairlane.checks.builder" -}}
{{- $builds := .Values.builds -}}
{{- if eq .Values.builder "none" -}}
{{- if $builds.socket -}}
{{- fail "builds.socket: there is no socket with `builder: none`; leave it empty, or set builder to dind, pink, host or docker-api" -}}
{{- end -}}
{{- if not $builds.command -}}
{{- fail "builds.command: with `builder: none` repo2docker has no container engine; set the command of an image that needs none, such as kaniko's (docs/pods.md)" -}}
{{- end -}}
{{- end -}}
{{- if and $builds.socket (not (hasPrefix "/" $builds.socket)) -}}
{{- fail "builds.socket: must be an absolute path on the nodes, such as /var/run/dind/docker.sock" -}}
{{- end -}}
{{- if and (eq .Values.builder "docker-api") (not $builds.socket) (not $builds.dockerApiRelease) -}}
{{- fail "builds.dockerApiRelease: name the release of binderhub-service, or set builds.socket to its socket" -}}
{{- end -}}
{{- if and (ne .Values.builder "docker-api") (or $builds.dockerApiRelease $builds.dockerApiNamespace) -}}
{{- fail (printf "builds.dockerApiRelease: only used with `builder: docker-api`; builder is %s" .Values.builder) -}}
{{- end -}}
{{- if and $builds.registryConfigSecret (not $builds.registryCheck) -}}
{{- fail "builds.registryConfigSecret: only used with builds.registryCheck, which is empty" -}}
{{- end -}}
{{- end -}}

{{- define "fairlane.checks.redis" -}}
{{- $redis := .Values.redis -}}
{{- if $redis.enabled -}}
{{- range $key := list "url" "existingSecret" "caSecret" -}}
{{- if index $redis $key -}}
{{- fail (printf "redis.%s: for another Redis than the chart's; set redis.enabled: false, or leave it empty" $key) -}}
{{- end -}}
{{- end -}}
{{- if not $redis.persistence.enabled -}}
{{- fail "redis.persistence.enabled: without it every restart of Redis loses all queued builds, rules and drains; only true is allowed" -}}
{{- end -}}
{{- else -}}
{{- if not (regexMatch "^(redis|rediss|redis[+]sentinel|redis[+]cluster)://" $redis.url) -}}
{{- fail "redis.url: with redis.enabled: false, set a URL that begins with redis://, rediss://, redis+sentinel:// or redis+cluster://" -}}
{{- end -}}
{{- if $redis.acl -}}
{{- fail "redis.acl: only the chart's own Redis gets a user; name your user in redis.url (`fairlane doctor --print-acl` prints its rights)" -}}
{{- end -}}
{{- $expands := contains "$(REDIS_PASSWORD)" $redis.url -}}
{{- if and $expands (not $redis.existingSecret) -}}
{{- fail "redis.existingSecret: name the Secret whose key redis-password stands for $(REDIS_PASSWORD) in redis.url" -}}
{{- end -}}
{{- if and $redis.existingSecret (not $expands) -}}
{{- fail "redis.existingSecret: redis.url does not contain $(REDIS_PASSWORD), so its password would not be used" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "fairlane.checks.auth" -}}
{{- $auth := .Values.auth -}}
{{- range $key := list "token" "hubToken" -}}
{{- $token := index $auth $key -}}
{{- if $token -}}
{{- if $auth.existingSecret -}}
{{- fail (printf "auth.%s: auth.existingSecret holds the tokens; set only one of the two" $key) -}}
{{- end -}}
{{- if lt (len $token) 16 -}}
{{- fail (printf "auth.%s: has %d characters; at least 16 are needed, and an empty value generates one" $key (len $token)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $auth.token (eq $auth.token $auth.hubToken) -}}
{{- fail "auth.hubToken: must differ from auth.token, because BinderHub may not operate the queue" -}}
{{- end -}}
{{- end -}}

{{/* The variables that the chart sets from its values: all that its templates name. */}}
{{- define "fairlane.ownVariables" -}}
- FAIRLANE_ALLOW_ARGS
- FAIRLANE_BASE_PATH
- FAIRLANE_BUILDERS
- FAIRLANE_BUILD_IMAGE
- FAIRLANE_CA
- FAIRLANE_COMMAND
- FAIRLANE_DISPATCHER_URL
- FAIRLANE_DOCKER_SOCKET
- FAIRLANE_EXECUTOR
- FAIRLANE_HUB_TOKEN
- FAIRLANE_INSTALLATION
- FAIRLANE_LISTEN
- FAIRLANE_LOG
- FAIRLANE_LOG_ARCHIVE
- FAIRLANE_LOG_ARCHIVE_ENDPOINT
- FAIRLANE_LOG_ARCHIVE_KEY
- FAIRLANE_LOG_ARCHIVE_REGION
- FAIRLANE_LOG_FORMAT
- FAIRLANE_METRICS_LISTEN
- FAIRLANE_NAMESPACE
- FAIRLANE_POD_TEMPLATE
- FAIRLANE_POLICY
- FAIRLANE_PREFIX
- FAIRLANE_PUSH_SECRET
- FAIRLANE_REDIS_URL
- FAIRLANE_REGISTRY_CHECK
- FAIRLANE_REGISTRY_CONFIG
- FAIRLANE_REPLACE_ENTRYPOINT
- FAIRLANE_SEAL_KEY
- FAIRLANE_SLOTS
- FAIRLANE_STICKY_BUILDS
- FAIRLANE_TLS_CERT
- FAIRLANE_TLS_KEY
- FAIRLANE_TOKEN
- FAIRLANE_TOKENS_FILE
- FAIRLANE_TRUSTED_PROXIES
- OTEL_EXPORTER_OTLP_ENDPOINT
- REDIS_PASSWORD
- SSL_CERT_FILE
{{- end -}}
