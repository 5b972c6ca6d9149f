#!/bin/bash
# Brings up a real Kubernetes cluster in network namespaces: etcd, API server, controllers, scheduler, real nodes with
# containerd, and simulated GPU nodes. Root needed. The variables are in lib.sh; down.sh takes it down.
#
# Prints, for eval or a test to read, one NAME=VALUE per line:
#   KUBECONFIG      of an administrator
#   NETNS           namespace from which the cluster is reached: nsenter --net=$NETNS COMMAND
#   NODE_IP         first real node
#   BIN             directory of kubectl and the other binaries
#   NODE_PIDS       directory with a file node-N for each real node, which holds the one pid whose end is the node's
#   REGISTRY_PUSH   the in-cluster registry as the operator pushes to it, once registry.sh has started it
#   REGISTRY_PULL   the same registry as the nodes pull from it
#
# Whatever an earlier run of the same site has left, running or crashed, is taken down first.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$HERE/lib.sh"

prepare() {
  need_root
  BIN=$("$HERE/build.sh")
  if [ "$CONTAINERD" = 2 ]; then
    PATH=${BIN#*$'\n'}:$PATH
    BIN=${BIN%%$'\n'*}
  fi
  "$HERE/down.sh"
  mkdir -p "$STATE"/{pids,logs,etcd,nodes}
  echo "$BIN" >"$STATE/bin"
}

# connect NETNS INTERFACE ADDRESS TEMPORARY: a veth pair from the site's bridge into a namespace, or into "root".
connect() {
  local inside=(nsenter --net="/run/netns/$1")
  ip link add "$4" type veth peer name "${4}p"
  ip link set "${4}p" netns "$NETNS"
  in_site ip link set "${4}p" master br0 up
  if [ "$1" = root ]; then inside=(); else ip link set "$4" netns "$1"; fi
  [ "$4" = "$2" ] || "${inside[@]}" ip link set "$4" name "$2"
  "${inside[@]}" ip addr add "$3/24" dev "$2"
  "${inside[@]}" ip link set "$2" up
}

site_network() {
  ip netns add "$NETNS"
  in_site ip link set lo up
  in_site ip link add br0 type bridge
  in_site ip addr add "$CONTROL_IP/24" dev br0
  in_site ip link set br0 up
  in_site sysctl -qw net.ipv4.ip_forward=1
  # Traffic from the root namespace for a site must never leave by the machine's default route. The more specific
  # routes of OPERATOR=1 win over this one.
  ip route replace unreachable "$NET.0.0/16"
  [ "$OPERATOR" != 1 ] || connect root "wcb${SITE_ID}op" "$NET.0.254" "wcb${SITE_ID}op"
}

node_network() {
  local i=$1 j
  ip netns add "$NETNS-n$i"
  in_node_net "$i" ip link set lo up
  connect "$NETNS-n$i" eth0 "$(node_ip "$i")" "wcb${SITE_ID}v$i"
  # There is no default route, but without some route for the services' range a connect fails before kube-proxy's rules
  # get to rewrite its destination.
  in_node_net "$i" ip route add "$SERVICE_CIDR" via "$CONTROL_IP"
  in_site ip route add "$(pod_net "$i").0/24" via "$(node_ip "$i")"
  [ "$OPERATOR" != 1 ] || ip route add "$(pod_net "$i").0/24" via "$(node_ip "$i")"
  for j in $(seq $((i - 1))); do
    in_node_net "$i" ip route add "$(pod_net "$j").0/24" via "$(node_ip "$j")"
    in_node_net "$j" ip route add "$(pod_net "$i").0/24" via "$(node_ip "$i")"
  done
}

write_pki() {
  local i nodes=()
  for i in $(seq "$NODES"); do nodes+=("$(node_name "$i")=$(node_ip "$i")"); done
  "$BIN/kcluster" pki -dir "$STATE/pki" -server "https://$CONTROL_IP:6443" -nodes "$(IFS=, && echo "${nodes[*]}")" \
    -sans "$CONTROL_IP,127.0.0.1,10.96.0.1,localhost,kubernetes,kubernetes.default,kubernetes.default.svc,kubernetes.default.svc.cluster.local"
}

start_etcd() { # without fsync: nothing in it outlives the test
  daemon etcd nsenter --net="/run/netns/$NETNS" "$BIN/etcd" --name=site --data-dir="$STATE/etcd" --unsafe-no-fsync \
    --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 \
    --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 \
    --initial-cluster=site=http://127.0.0.1:2380 --log-level=warn
}

# Beta in Kubernetes 1.34, and off by default.
image_volumes() { [ "$CONTAINERD" = 2 ] && echo ImageVolume=true || echo ImageVolume=false; }

# MutatingAdmissionPolicy is beta in 1.34, and off: with it pods that are made at run time find their images (docs/registries.md).
start_api_server() {
  local pki=$STATE/pki
  cd "$STATE" # it writes into its working directory
  daemon kube-apiserver nsenter --net="/run/netns/$NETNS" "$BIN/kube-apiserver" \
    --etcd-servers=http://127.0.0.1:2379 --advertise-address="$CONTROL_IP" --bind-address=0.0.0.0 --secure-port=6443 \
    --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --client-ca-file="$pki/ca.crt" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
    --feature-gates="MutatingAdmissionPolicy=true,$(image_volumes)" --runtime-config=admissionregistration.k8s.io/v1beta1=true \
    --kubelet-client-certificate="$pki/apiserver-kubelet-client.crt" \
    --kubelet-client-key="$pki/apiserver-kubelet-client.key" \
    --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$pki/sa.pub" \
    --service-account-signing-key-file="$pki/sa.key" --service-cluster-ip-range="$SERVICE_CIDR" \
    --requestheader-client-ca-file="$pki/front-proxy-ca.crt" --requestheader-allowed-names=front-proxy-client \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --proxy-client-cert-file="$pki/front-proxy-client.crt" --proxy-client-key-file="$pki/front-proxy-client.key" --v=1
  cd "$HERE"
  wait_for 120 kubectl get --raw /readyz
}

start_controllers() {
  local pki=$STATE/pki
  daemon kube-controller-manager nsenter --net="/run/netns/$NETNS" "$BIN/kube-controller-manager" \
    --kubeconfig="$pki/controller-manager.kubeconfig" --leader-elect=false --use-service-account-credentials=true \
    --service-account-private-key-file="$pki/sa.key" --root-ca-file="$pki/ca.crt" \
    --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" --bind-address=127.0.0.1 --v=1
  daemon kube-scheduler nsenter --net="/run/netns/$NETNS" "$BIN/kube-scheduler" \
    --kubeconfig="$pki/scheduler.kubeconfig" --leader-elect=false --bind-address=127.0.0.1 --v=1
}

# What a site's administrator would have set up. The storage class provisions nothing: volumes are made by hand.
apply_basics() {
  kubectl create -f - >/dev/null <<T
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: kube-proxy}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:node-proxier"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:kube-proxy"}]
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: local
  annotations: {storageclass.kubernetes.io/is-default-class: "true"}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
T
}

write_containerd_config() {
  local dir=$1
  cat >"$dir/containerd.toml" <<T
version = 2
root = "$dir/containerd"
state = "/run/containerd/state"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/wcbundle/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$dir/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
T
}

write_cni_config() {
  cat >"$1/cni/10-pods.conflist" <<T
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "isDefaultGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$2.0/24"}]], "dataDir": "$1/ipam"}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
T
}

# The one registry that a node knows is the site's own, over plain http.
write_registry_config() {
  local host=$REGISTRY_IP:$REGISTRY_PORT
  mkdir -p "$1/certs.d/$host"
  printf 'server = "http://%s"\n[host."http://%s"]\n  capabilities = ["pull", "resolve"]\n' "$host" "$host" >"$1/certs.d/$host/hosts.toml"
}

write_kubelet_config() {
  local dir=$1 name=$2 cgroup=$3 pki=$STATE/pki
  cp "$pki/kubelet-$name.kubeconfig" "$dir/kubelet.kubeconfig"
  : >"$dir/resolv.conf"
  cat >"$dir/kubelet.yaml" <<T
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $pki/kubelet-$name-serving.crt
tlsPrivateKeyFile: $pki/kubelet-$name-serving.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
featureGates: {$(image_volumes | sed 's/=/: /')}
cgroupDriver: cgroupfs
cgroupRoot: $cgroup
failCgroupV1: false
failSwapOn: false
maxPods: 110
resolvConf: $dir/resolv.conf
clusterDomain: cluster.local
clusterDNS: ["10.96.0.10"]
serializeImagePulls: false
registryPullQPS: 0
eventRecordQPS: 0
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: "1%", imagefs.available: "1%", nodefs.inodesFree: "1%"}
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
volumeStatsAggPeriod: 0s
T
}

# The kubelet wants its root cgroup to exist, in every hierarchy of cgroup v1 and once in cgroup v2.
make_cgroups() {
  local h
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p "/sys/fs/cgroup$1"
    return
  fi
  for h in /sys/fs/cgroup/*/; do
    [ "$h" = /sys/fs/cgroup/unified/ ] || mkdir -p "$h$1"
  done
}

start_node() {
  local i=$1 name dir
  name=$(node_name "$i")
  dir=$STATE/nodes/$name
  mkdir -p "$dir"/{fs,cni,certs.d}
  echo "$NET.96.0/19" >"$dir/cluster-cidr"
  echo "pool=pool-$(((i - 1) % 2))" >"$dir/labels"
  make_cgroups "/wcb-$SITE/$name"
  write_containerd_config "$dir"
  write_cni_config "$dir" "$(pod_net "$i")"
  write_registry_config "$dir"
  write_kubelet_config "$dir" "$name" "/wcb-$SITE/$name"
  daemon "node-$i" nsenter --net="/run/netns/$NETNS-n$i" \
    unshare --mount --uts --ipc --pid --fork --kill-child --mount-proc \
    "$HERE/node.sh" "$dir" "$name" "$(node_ip "$i")" "$BIN" "$PROXY_MODE"
}

start_kwok() {
  daemon kwok nsenter --net="/run/netns/$NETNS" "$BIN/kwok" --kubeconfig "$ADMIN" --config "$HERE/kwok/stages.yaml" \
    --manage-all-nodes=false --manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake \
    --node-lease-duration-seconds=40 --cidr=10.200.0.0/16 --node-ip="$CONTROL_IP"
  local i size="cpu: \"96\", memory: 1Ti, pods: \"$KWOK_PODS\", ephemeral-storage: 1Ti, nvidia.com/gpu: \"$KWOK_GPUS\""
  local taints="[{key: kwok.x-k8s.io/node, value: fake, effect: NoSchedule}]"
  [ "$KWOK_TAINT" = 1 ] || taints="[]"
  for i in $(seq "$KWOK_NODES"); do
    cat <<T
---
apiVersion: v1
kind: Node
metadata:
  name: gpu-$i
  annotations: {kwok.x-k8s.io/node: fake, node.alpha.kubernetes.io/ttl: "0"}
  labels:
    type: kwok
    pool: pool-$(((i - 1) % 4))
    kubernetes.io/hostname: gpu-$i
    kubernetes.io/os: linux
    kubernetes.io/arch: amd64
    nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3
spec:
  taints: $taints
status:
  capacity: {$size}
  allocatable: {$size}
T
  done | kubectl create -f - >/dev/null
}

# A node that fails does so before its kubelet starts, and says why in its own log.
node_registered() {
  kubectl get node "$(node_name "$1")" || { tail -n 3 "$STATE/logs/node-$1.log" && return 1; }
}

wait_nodes() {
  local i
  for i in $(seq "$NODES"); do
    wait_for 60 node_registered "$i"
  done
  kubectl wait --for=condition=Ready node --all --timeout=120s >/dev/null
}

print_env() {
  echo "KUBECONFIG=$ADMIN"
  echo "NETNS=/run/netns/$NETNS"
  echo "NODE_IP=$(node_ip 1)"
  echo "NODE_PIDS=$STATE/pids"
  echo "BIN=$BIN"
  echo "REGISTRY_PUSH=$(node_ip 1):$REGISTRY_NODE_PORT"
  echo "REGISTRY_PULL=$REGISTRY_IP:$REGISTRY_PORT"
}

prepare
site_network
for i in $(seq "$NODES"); do node_network "$i"; done
log "network is there"
write_pki
start_etcd
start_api_server
log "API server is ready"
start_controllers
apply_basics
for i in $(seq "$NODES"); do start_node "$i"; done
if [ "$KWOK_NODES" -gt 0 ]; then start_kwok; fi
wait_nodes
log "$NODES real and $KWOK_NODES simulated nodes are ready"
print_env
