#!/bin/bash
# Starts the in-cluster registry of a site that is up: the wcbundle binary in an image of its own, brought to the node by
# hand, because there is no registry yet that it could be pulled from.
#
#   registry.sh PATH_OF_STATIC_BINARY [ARGUMENT...]     default arguments: registry serve --addr :5000 --dir /data --plain-http
#
# Its content is on the first node's disk and outlives the pod. Prints nothing; up.sh has printed its two addresses.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$HERE/lib.sh"

IMAGE=docker.io/wcbundle/registry:1

import_image() {
  binary_image "$1" /wcbundle "$IMAGE" "$2" "$STATE/registry.tar"
  in_node 1 ctr -a /run/containerd/containerd.sock -n k8s.io images import "$STATE/registry.tar" >&2
}

apply_registry() {
  kubectl apply -f - >/dev/null <<T
apiVersion: v1
kind: Namespace
metadata: {name: registry}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: registry, namespace: registry}
spec:
  replicas: 1
  strategy: {type: Recreate}
  selector: {matchLabels: {app: registry}}
  template:
    metadata: {labels: {app: registry}}
    spec:
      nodeSelector: {kubernetes.io/hostname: $(node_name 1)}
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 5
      containers:
      - name: registry
        image: $IMAGE
        imagePullPolicy: Never
        ports: [{name: http, containerPort: $REGISTRY_PORT}]
        readinessProbe: {httpGet: {path: /v2/, port: http}, periodSeconds: 1}
        resources: {requests: {cpu: 10m, memory: 64Mi}}
        volumeMounts: [{name: data, mountPath: /data}]
      volumes:
      - name: data
        hostPath: {path: $STATE/registry-data, type: DirectoryOrCreate}
---
apiVersion: v1
kind: Service
metadata: {name: registry, namespace: registry}
spec:
  type: NodePort
  clusterIP: $REGISTRY_IP
  selector: {app: registry}
  ports: [{name: http, port: $REGISTRY_PORT, targetPort: http, nodePort: $REGISTRY_NODE_PORT}]
T
}

# json_list WORD...: as a JSON list of strings. The words are ours: no quotes, no backslashes.
json_list() {
  local out
  out=$(printf '"%s",' "$@")
  echo "[${out%,}]"
}

# Through the node port, as the operator will reach it, and from every node, as images are pulled: kube-proxy is a moment
# behind the pod, on each node by itself.
answers() {
  local i
  in_site curl -fsS --max-time 3 "http://$(node_ip 1):$REGISTRY_NODE_PORT/v2/" || return 1
  for i in $(seq "$(find "$STATE/pids" -name 'node-*' | wc -l)"); do
    in_node_net "$i" curl -fsS --max-time 3 "http://$REGISTRY_IP:$REGISTRY_PORT/v2/" || return 1
  done
}

need_root
if [ $# -lt 1 ] || [ ! -x "$1" ]; then
  echo "usage: registry.sh PATH_OF_STATIC_BINARY [ARGUMENT...]" >&2
  exit 2
fi
[ -e "$STATE/bin" ] || die "site $SITE is not up"
BIN=$(cat "$STATE/bin")
binary=$1
shift
[ $# -gt 0 ] || set -- registry serve --addr ":$REGISTRY_PORT" --dir /data --plain-http
import_image "$binary" "$(json_list "$@")"
apply_registry
kubectl -n registry rollout status deployment/registry --timeout=90s >&2
wait_for 20 answers
log "registry answers"
