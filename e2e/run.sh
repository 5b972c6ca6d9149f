#!/bin/bash
# Sets the story up and runs it: run.sh test (assertions, needs root) or run.sh demo (prints it, leaves out what it must).
#
# Builds what it needs into ${WCBUNDLE_CACHE:-~/.cache/wcbundle}, makes the inputs from public packages, brings up a cluster
# in network namespaces without a route out, runs the story inside them and takes everything down again.
#   WCBUNDLE_DEMO_KUBECONFIG, WCBUNDLE_DEMO_REGISTRY, WCBUNDLE_DEMO_PULL   use this cluster, and this registry that its
#                            nodes can pull from over http, instead
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
cd "$HERE/.."
MODE=${1:?test or demo}
CACHE=${WCBUNDLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/wcbundle}
COSIGN_VERSION=v2.6.5
export CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false"
export SITE=story SITE_ID=${SITE_ID:-7} KWOK_NODES=2

say() { echo "== $*" >&2; }

work=$(mktemp -d)
cluster=no
finish() {
  if [ "$cluster" = ours ]; then e2e/cluster/down.sh >&2; fi
  rm -rf "$work"
}
trap finish EXIT

packages() {
  local missing=()
  command -v npm >/dev/null || missing+=(npm)
  command -v dpkg-deb >/dev/null || missing+=(dpkg)
  [ ${#missing[@]} = 0 ] || { apt-get update -q && apt-get install -y -q --no-install-recommends "${missing[@]}"; } >&2
}

cosign() {
  local dir=$CACHE/cosign-$COSIGN_VERSION
  if [ ! -x "$dir/cosign" ]; then
    say "building upstream cosign $COSIGN_VERSION, once: about 4 minutes on 2 cores"
    GOBIN=$dir go install -ldflags '-s -w' "github.com/sigstore/cosign/v2/cmd/cosign@$COSIGN_VERSION"
  fi
  echo "$dir/cosign"
}

setting() { sed -n "s/^$1=//p" "$work/site.env"; }

own_cluster() {
  say "a cluster of our own: etcd, Kubernetes 1.34, one real node and two simulated GPU nodes, in namespaces without a route out"
  say "first time: about 9 minutes to build on 2 cores, 4 GB of build cache; then 30 seconds; 1 GB of memory while it runs"
  cluster=ours
  e2e/cluster/up.sh >"$work/site.env"
  e2e/cluster/registry.sh "$PWD/bin/wcbundle"
  export STORY_KUBECONFIG STORY_PUSH STORY_PULL
  STORY_KUBECONFIG=$(setting KUBECONFIG) STORY_PUSH=$(setting REGISTRY_PUSH) STORY_PULL=$(setting REGISTRY_PULL)
  inside=(nsenter "--net=$(setting NETNS)")
}

packages
inside=()
if [ -n "${WCBUNDLE_DEMO_KUBECONFIG:-}" ]; then
  : "${WCBUNDLE_DEMO_REGISTRY:?a registry that this cluster pulls from, host:port}"
  export STORY_KUBECONFIG=$WCBUNDLE_DEMO_KUBECONFIG STORY_PUSH=$WCBUNDLE_DEMO_REGISTRY STORY_PULL=${WCBUNDLE_DEMO_PULL:-$WCBUNDLE_DEMO_REGISTRY}
elif [ "$(id -u)" = 0 ]; then
  own_cluster
else
  say "no root and no WCBUNDLE_DEMO_KUBECONFIG: the steps that need a cluster are left out"
fi
STORY_COSIGN=$(cosign)
say "the inputs: Debian packages, podinfo from its source, models from npm; cached in $CACHE"
go run ./e2e/fixtures -o "$work/fixtures" -wcbundle "$PWD/bin/wcbundle"
mkdir "$work/site"
export STORY_COSIGN STORY_BINARY=$PWD/bin/wcbundle STORY_FIXTURES=$work/fixtures STORY_WORK=$work/site
case $MODE in
  test)
    go test -c -tags e2e -o "$work/story.test" ./e2e/story
    "${inside[@]}" "$work/story.test" -test.v -test.timeout 30m
    ;;
  demo)
    go build -o "$work/demo" ./e2e/demo
    "${inside[@]}" "$work/demo"
    ;;
  *) say "test or demo"; exit 2 ;;
esac
