# shellcheck shell=bash disable=SC2034 # each script uses some of the variables
# What the scripts of this folder share. One site is one cluster, sealed off from everything else:
#
#   root namespace (the operator's machine)               [OPERATOR=1 only]
#     wcb<ID>op  10.<80+ID>.0.254 ----+
#   namespace wcb-<site>              |
#     br0        10.<80+ID>.0.1   ----+   etcd, API server, controllers, scheduler, kwok
#       |  one veth pair per node
#   namespace wcb-<site>-n<i>  eth0 10.<80+ID>.0.<10+i>   containerd, kubelet, kube-proxy
#       cni0     10.<80+ID>.<100+i>.1/24                  pods
#
# No namespace has a default route, so nothing in a site can reach the world. Commands of the operator are run inside
# by nsenter; with OPERATOR=1 the root namespace is joined to the site instead.
#
# Variables, all optional:
#   SITE=alpha SITE_ID=1     name, and a number of 1..99 that no other running site on this machine has
#   NODES=1                  real nodes
#   KWOK_NODES=2 KWOK_GPUS=8 simulated nodes and the nvidia.com/gpu of each
#   KWOK_TAINT=1 KWOK_PODS=110  0: pods need no toleration for them; the pods that each takes
#   OPERATOR=0               1 joins the root namespace to the site
#   PROXY_MODE=iptables      or nftables
#   CONTAINERD=1             Debian's containerd 1.6; 2 = containerd 2, built from its source, with image volumes switched on
#   WCBUNDLE_CACHE           where binaries are kept, default $XDG_CACHE_HOME/wcbundle
#   STATE                    where the site keeps its state, default $WCBUNDLE_CACHE/run/$SITE

SITE=${SITE:-alpha}
SITE_ID=${SITE_ID:-1}
NODES=${NODES:-1}
KWOK_NODES=${KWOK_NODES:-2}
KWOK_GPUS=${KWOK_GPUS:-8}
KWOK_TAINT=${KWOK_TAINT:-1}
KWOK_PODS=${KWOK_PODS:-110}
OPERATOR=${OPERATOR:-0}
PROXY_MODE=${PROXY_MODE:-iptables}
CONTAINERD=${CONTAINERD:-1}
CACHE=${WCBUNDLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/wcbundle}
STATE=${STATE:-$CACHE/run/$SITE}

KWOK_VERSION=v0.8.0
CONTAINERD_VERSION=v2.1.4
NET=10.$((80 + SITE_ID))
CONTROL_IP=$NET.0.1
SERVICE_CIDR=10.96.0.0/16
REGISTRY_IP=10.96.0.50 # the in-cluster registry's ClusterIP: fixed, because a sealed site has no DNS for its nodes
REGISTRY_PORT=5000
REGISTRY_NODE_PORT=30500
NETNS=wcb-$SITE
ADMIN=$STATE/pki/admin.kubeconfig

STARTED=$(date +%s%N)

# log LINE...: to stderr, with the seconds since the script started. stdout is for results.
log() {
  local ms=$((($(date +%s%N) - STARTED) / 1000000))
  printf '%4d.%03ds %s\n' $((ms / 1000)) $((ms % 1000)) "$*" >&2
}

die() {
  echo "$(basename "$0"): error: $*" >&2
  exit 1
}

need_root() { [ "$(id -u)" = 0 ] || die "needs root: it makes network namespaces and runs containers"; }

node_name() { echo "$SITE-n$1"; }
node_ip() { echo "$NET.0.$((10 + $1))"; }
pod_net() { echo "$NET.$((100 + $1))"; }

in_site() { nsenter --net="/run/netns/$NETNS" "$@"; }            # not `ip netns exec`, which hides the cgroup mounts
in_node_net() { nsenter --net="/run/netns/$NETNS-n$1" "${@:2}"; } # in_node_net INDEX COMMAND...
kubectl() { in_site "$BIN/kubectl" --kubeconfig "$ADMIN" "$@"; }

# in_node INDEX COMMAND...: in all namespaces of a running node, where /run/containerd is the node's own.
in_node() {
  local starter init
  starter=$(cat "$STATE/pids/node-$1")
  init=$(cat "/proc/$starter/task/$starter/children")
  nsenter --target "${init%% *}" --mount --net --pid -- "${@:2}"
}

# daemon NAME COMMAND...: detached, in a session of its own, pid and log kept under the state directory.
daemon() {
  local name=$1
  shift
  setsid "$@" >"$STATE/logs/$name.log" 2>&1 </dev/null &
  echo $! >"$STATE/pids/$name"
}

# wait_for SECONDS COMMAND...: until the command succeeds; its last output is shown when it never does.
wait_for() {
  local end=$(($(date +%s) + $1)) out
  shift
  until out=$("$@" 2>&1); do
    [ "$(date +%s)" -lt "$end" ] || die "gave up waiting for: $* (last said: $out)"
    sleep 0.2
  done
}

# binary_image BINARY PATH REF ARGS OUT: writes an OCI image of one layer with one executable at PATH, which is its
# entrypoint; ARGS is a JSON list. The same binary gives the same bytes.
binary_image() {
  local binary=$1 path=$2 ref=$3 args=$4 out=$5 dir layer config manifest
  dir=$(mktemp -d "$(dirname "$out")/image.XXXXXX")
  mkdir -p "$dir/root" "$dir/oci/blobs/sha256"
  install -D -m 0755 "$binary" "$dir/root$path"
  deterministic_tar "$dir/root" "$dir/layer"
  layer=$(sha256sum <"$dir/layer" | cut -d' ' -f1)
  printf '{"architecture":"amd64","os":"linux","config":{"Entrypoint":["%s"],"Cmd":%s,"Env":["PATH=/"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created_by":"one binary"}]}' \
    "$path" "$args" "$layer" >"$dir/config"
  config=$(sha256sum <"$dir/config" | cut -d' ' -f1)
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%d},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%s","size":%d}]}' \
    "$config" "$(stat -c %s "$dir/config")" "$layer" "$(stat -c %s "$dir/layer")" >"$dir/manifest"
  manifest=$(sha256sum <"$dir/manifest" | cut -d' ' -f1)
  printf '{"imageLayoutVersion":"1.0.0"}' >"$dir/oci/oci-layout"
  printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%d,"annotations":{"io.containerd.image.name":"%s"}}]}' \
    "$manifest" "$(stat -c %s "$dir/manifest")" "$ref" >"$dir/oci/index.json"
  mv "$dir/layer" "$dir/oci/blobs/sha256/$layer"
  mv "$dir/config" "$dir/oci/blobs/sha256/$config"
  mv "$dir/manifest" "$dir/oci/blobs/sha256/$manifest"
  deterministic_tar "$dir/oci" "$out"
  rm -rf "$dir"
}

deterministic_tar() { tar -C "$1" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$2" .; }
