#!/bin/bash
# Sets the story up and runs it: run.sh test (assertions, needs root) or run.sh demo (prints it, leaves out what it must).
# test runs the tests of the control plane before it: run.sh plane runs nothing else. They want controllers, and no pod that really runs.
#
# test runs the interoperation with upstream cosign first, which needs no cluster: run.sh interop runs nothing else, run.sh story leaves it out.
#
# Builds what it needs into ${WCBUNDLE_CACHE:-~/.cache/wcbundle}, makes the inputs from public packages, brings up a cluster
# in network namespaces without a route out, runs the story inside them and takes everything down again.
#   WCBUNDLE_DEMO_KUBECONFIG, WCBUNDLE_DEMO_REGISTRY, WCBUNDLE_DEMO_PULL   use this cluster, and this registry that its
#                            nodes can pull from over http, instead
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
cd "$HERE/.."
MODE=${1:?test, interop, plane, story or demo}
CACHE=${WCBUNDLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/wcbundle}
COSIGN_VERSION=v2.6.5
COSIGN3_VERSION=v3.1.3
export CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false"
export SITE=story SITE_ID=${SITE_ID:-7} NODES=2 KWOK_NODES=2

say() { echo "== $*" >&2; }

work=$(mktemp -d)
cluster=no
finish() {
  if [ "$cluster" = plane ]; then SITE=plane e2e/cluster/down.sh >&2; fi
  if [ "$cluster" = ours ]; then e2e/cluster/down.sh >&2; fi
  rm -rf "$work"
}
trap finish EXIT

packages() {
  local missing=()
  command -v ip >/dev/null || missing+=(iproute2)
  if [ "$MODE" != interop ] && [ "$MODE" != plane ]; then
    command -v npm >/dev/null || missing+=(npm)
    command -v dpkg-deb >/dev/null || missing+=(dpkg)
  fi
  [ ${#missing[@]} = 0 ] || { apt-get update -q && apt-get install -y -q --no-install-recommends "${missing[@]}"; } >&2
}

# cosign MODULE VERSION builds upstream's command once and prints its path.
cosign() {
  local dir=$CACHE/cosign-$2
  if [ ! -x "$dir/cosign" ]; then
    say "building upstream cosign $2, once: about 4 minutes on 2 cores"
    GOBIN=$dir go install -ldflags '-s -w' "$1/cmd/cosign@$2"
  fi
  echo "$dir/cosign"
}

cosign2() { cosign github.com/sigstore/cosign/v2 "$COSIGN_VERSION"; }
cosign3() { cosign github.com/sigstore/cosign/v3 "$COSIGN3_VERSION"; }

# interop runs where there is no network but a loopback device of its own.
interop() {
  say "with upstream cosign $COSIGN_VERSION and $COSIGN3_VERSION, both ways: about 4 minutes"
  INTEROP_COSIGN2=$(cosign2)
  INTEROP_COSIGN3=$(cosign3)
  export INTEROP_COSIGN2 INTEROP_COSIGN3 INTEROP_BINARY=$PWD/bin/wcbundle
  go test -c -tags e2e -o "$work/interop.test" ./e2e/interop
  local alone=(unshare -n)
  [ "$(id -u)" = 0 ] || alone=(unshare -rn)
  (cd e2e/interop && "${alone[@]}" bash -c 'ip link set lo up; exec "$@"' interop "$work/interop.test" -test.v -test.timeout 20m)
}

# tool NAME PACKAGE [FLAGS] builds what e2e/cluster/NAME pins, once, and prints its path.
tool() {
  local name=$1 package=$2 dir
  shift 2
  dir=$CACHE/$name-$(cat "e2e/cluster/$name"/go.{mod,sum} | md5sum | cut -c1-12)
  if [ ! -x "$dir/$name" ]; then
    say "building $package, once: about 3 minutes on 2 cores"
    (cd "e2e/cluster/$name" && go build -ldflags '-s -w' "$@" -o "$dir/$name" "$package") >&2
  fi
  echo "$dir/$name"
}

# plane brings up a control plane with simulated nodes and runs the packages that only need controllers.
plane() {
  say "a control plane with simulated nodes: about 4 minutes"
  cluster=plane
  SITE=plane NODES=0 KWOK_NODES=4 KWOK_TAINT=0 KWOK_PODS=1000 e2e/cluster/up.sh >"$work/site.env"
  # The addresses of simulated pods are this machine's: gates that ask them reach the test.
  nsenter "--net=$(setting NETNS)" ip route add local 10.200.0.0/16 dev lo
  WCBUNDLE_TEST_LWS=$(tool lws sigs.k8s.io/lws/cmd)
  WCBUNDLE_TEST_LWS_CRD=$(cd e2e/cluster/lws && go list -m -f '{{.Dir}}' sigs.k8s.io/lws)/config/crd/bases/leaderworkerset.x-k8s.io_leaderworkersets.yaml
  WCBUNDLE_TEST_PROMETHEUS=$(tool prometheus github.com/prometheus/prometheus/cmd/prometheus -tags remove_all_sd)
  export WCBUNDLE_TEST_LWS WCBUNDLE_TEST_LWS_CRD WCBUNDLE_TEST_PROMETHEUS
  WCBUNDLE_TEST_KUBECONFIG=$(setting KUBECONFIG)
  export WCBUNDLE_TEST_KUBECONFIG
  go test -c -tags e2e -o "$work/policy.test" ./install
  (cd install && nsenter "--net=$(setting NETNS)" "$work/policy.test" -test.v -test.run Policy -test.timeout 5m)
  go test -c -tags e2e -o "$work/plane.test" ./install/revision
  (cd install/revision && WCBUNDLE_TEST_PODNET=1 nsenter "--net=$(setting NETNS)" "$work/plane.test" -test.v -test.parallel 4 -test.timeout 15m)
  SITE=plane e2e/cluster/down.sh >&2
  cluster=no
}

# models runs what needs containerd 2, which the story's nodes have not: image volumes.
models() {
  e2e/cluster/down.sh >&2
  cluster=no
  say "another cluster, with containerd 2: models as image volumes on a real node: about 4 minutes, and 3 to build, once"
  SITE=models SITE_ID=$((SITE_ID + 1)) e2e/models.sh "$work/fixtures"
}

setting() { sed -n "s/^$1=//p" "$work/site.env"; }

own_cluster() {
  say "a cluster of our own: etcd, Kubernetes 1.34, two real nodes and two simulated GPU nodes, in namespaces without a route out"
  say "first time: about 9 minutes to build on 2 cores, 4 GB of build cache; then 30 seconds; 1.3 GB of memory while it runs"
  cluster=ours
  e2e/cluster/up.sh >"$work/site.env"
  inside=(nsenter "--net=$(setting NETNS)")
  volume
  export STORY_KUBECONFIG STORY_NODES STORY_BOOTSTRAP=yes
  STORY_KUBECONFIG=$(setting KUBECONFIG) STORY_NODES=$(setting NODE_PIDS)
}

# The volume of the site's registry. Both nodes reach it, as they would storage on a network.
volume() {
  mkdir "$work/volume"
  chown 65532:65532 "$work/volume"
  chmod a+x "$work"
  "${inside[@]}" "$(setting BIN)/kubectl" --kubeconfig "$(setting KUBECONFIG)" apply -f - >&2 <<T
apiVersion: v1
kind: PersistentVolume
metadata: {name: registry}
spec:
  capacity: {storage: 20Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: local
  persistentVolumeReclaimPolicy: Retain
  hostPath: {path: $work/volume, type: Directory}
T
}

packages
if [ "$MODE" = test ] || [ "$MODE" = interop ]; then interop; fi
if [ "$MODE" = interop ]; then exit; fi
if [ "$MODE" = plane ] || { [ "$MODE" = test ] && [ "$(id -u)" = 0 ]; }; then plane; fi
if [ "$MODE" = plane ]; then exit; fi
inside=()
if [ -n "${WCBUNDLE_DEMO_KUBECONFIG:-}" ]; then
  : "${WCBUNDLE_DEMO_REGISTRY:?a registry that this cluster pulls from, host:port}"
  export STORY_KUBECONFIG=$WCBUNDLE_DEMO_KUBECONFIG STORY_PUSH=$WCBUNDLE_DEMO_REGISTRY STORY_PULL=${WCBUNDLE_DEMO_PULL:-$WCBUNDLE_DEMO_REGISTRY}
elif [ "$(id -u)" = 0 ]; then
  own_cluster
else
  say "no root and no WCBUNDLE_DEMO_KUBECONFIG: the steps that need a cluster are left out"
fi
STORY_COSIGN=$(cosign2)
say "the inputs: Debian packages, podinfo from its source, models from npm; cached in $CACHE"
go run ./e2e/fixtures -o "$work/fixtures" -wcbundle "$PWD/bin/wcbundle"
mkdir "$work/site"
export STORY_COSIGN STORY_BINARY=$PWD/bin/wcbundle STORY_FIXTURES=$work/fixtures STORY_WORK=$work/site
case $MODE in
  test|story)
    go test -c -tags e2e -o "$work/story.test" ./e2e/story
    "${inside[@]}" "$work/story.test" -test.v -test.timeout 40m
    if [ "$MODE" = test ] && [ "$cluster" = ours ]; then models; fi
    ;;
  demo)
    go build -o "$work/demo" ./e2e/demo
    "${inside[@]}" "$work/demo"
    ;;
  *) say "test, interop, plane, story or demo"; exit 2 ;;
esac
