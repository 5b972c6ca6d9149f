#!/bin/bash
# One real node: containerd, kube-proxy and kubelet. It is process 1 of the node's pid, mount, uts and ipc namespaces,
# which up.sh makes with `unshare --kill-child`: when that one process is killed the whole node is gone, with all its
# containers and mounts.
#
#   node.sh DIRECTORY NAME ADDRESS BINARIES PROXY_MODE
set -euo pipefail
DIR=$1 NAME=$2 ADDRESS=$3 BIN=$4 PROXY_MODE=$5
SOCKET=/run/containerd/containerd.sock

# Every path that kubelet, containerd or CNI has built in gets a backing directory of the node's own.
private_paths() {
  mount --make-rshared / # kubelet and containerd propagate mounts; this namespace is private to the node
  mkdir -p /var/lib/kubelet /run/containerd /run/netns /var/lib/cni /var/log/pods /var/log/containers
  mount -t tmpfs tmpfs /run/netns
  local p
  for p in var/lib/kubelet run/containerd var/lib/cni var/log/pods var/log/containers; do
    mkdir -p "$DIR/fs/$p"
    mount --bind "$DIR/fs/$p" "/$p"
    mount --make-shared "/$p"
  done
  mkdir -p /etc/containerd/certs.d
  mount --bind "$DIR/certs.d" /etc/containerd/certs.d
  touch "$DIR/xtables.lock" /run/xtables.lock
  mount --bind "$DIR/xtables.lock" /run/xtables.lock
}

network_settings() {
  sysctl -qw net.ipv4.ip_forward=1
  # Absent unless the kernel has br_netfilter, and then traffic between pods of one node does not pass iptables either.
  [ ! -e /proc/sys/net/bridge/bridge-nf-call-iptables ] || sysctl -qw net.bridge.bridge-nf-call-iptables=1
}

start_containerd() {
  containerd --config "$DIR/containerd.toml" >"$DIR/containerd.log" 2>&1 &
  local _
  for _ in $(seq 300); do
    if ctr -a "$SOCKET" version >/dev/null 2>&1; then
      ctr -a "$SOCKET" -n k8s.io images import "$BIN/pause.tar"
      return
    fi
    sleep 0.1
  done
  echo "containerd does not answer, see $DIR/containerd.log" >&2
  return 1
}

start_proxy() {
  "$BIN/kube-proxy" --kubeconfig="$DIR/../../pki/kube-proxy.kubeconfig" --hostname-override="$NAME" \
    --proxy-mode="$PROXY_MODE" --cluster-cidr="$(cat "$DIR/cluster-cidr")" --bind-address="$ADDRESS" \
    --nodeport-addresses="$ADDRESS/32" --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 \
    --conntrack-tcp-timeout-close-wait=0 --v=1 >"$DIR/kube-proxy.log" 2>&1 &
}

# A test may kill the kubelet to see pods survive it, so it is started again for ever.
keep_kubelet() {
  while :; do
    "$BIN/kubelet" --config="$DIR/kubelet.yaml" --kubeconfig="$DIR/kubelet.kubeconfig" --hostname-override="$NAME" \
      --node-ip="$ADDRESS" --node-labels="$(cat "$DIR/labels")" --v=2 >>"$DIR/kubelet.log" 2>&1 &
    echo $! >"$DIR/kubelet.pid" # as the node sees it
    wait $! && echo "kubelet ended" || echo "kubelet ended with $?"
    sleep 1
  done
}

hostname "$NAME"
private_paths
network_settings
ulimit -n "$(ulimit -Hn)"
start_containerd
start_proxy
keep_kubelet
