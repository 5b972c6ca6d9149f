#!/bin/bash
# Proves on a cluster of its own, with containerd 2, that pods mount models as image volumes from the site's registry and read the right bytes,
# and that images and models are on the node before a pool is drained.
#
#   e2e/models.sh [FIXTURES]   needs root; SITE_ID as for e2e/cluster; FIXTURES is what e2e/fixtures wrote, made here if it is left out
set -euo pipefail
cd "$(dirname "$0")/.."
export SITE=${SITE:-models} SITE_ID=${SITE_ID:-25} NODES=1 KWOK_NODES=0 CONTAINERD=2
work=$(mktemp -d)
down=$PWD/e2e/cluster/down.sh
trap '"$down" >&2; rm -rf "$work"' EXIT
binary=$PWD/bin/wcbundle
setting() { sed -n "s/^$1=//p" "$work/site.env"; }
say() { printf '%s\n' "$*" >&2; }

if [ -n "${1:-}" ]; then ln -s "$(realpath "$1")" "$work/fixtures"; else go run ./e2e/fixtures -o "$work/fixtures" -wcbundle "$binary"; fi
e2e/cluster/up.sh >"$work/site.env"
e2e/cluster/registry.sh "$binary"
export WCBUNDLE_PASSWORD=test WCBUNDLE_STATE_DIR=$work/state WCBUNDLE_NAMESPACE=wordcab WCBUNDLE_KUBECONFIG
WCBUNDLE_KUBECONFIG=$(setting KUBECONFIG)
inside() { nsenter "--net=$(setting NETNS)" "$@"; }
at_site() { inside "$binary" "$@"; }
kubectl() { inside "$(setting BIN)/kubectl" --kubeconfig "$WCBUNDLE_KUBECONFIG" -n wordcab "$@"; }

prepare() {
  cd "$work"
  "$binary" keys generate --prefix root
  "$binary" keys generate --prefix release
  "$binary" trust init --product wordcab --root-key root.pub --release-key release.pub --out trust.json
  "$binary" trust sign --chain chain.json --key root.key trust.json
  local r
  for r in r1 r2; do
    "$binary" build -f "fixtures/$r/bundle.yaml" --out "$r.wcb"
    "$binary" sign --key release.key "$r.wcb"
  done
  at_site trust accept --site models --registry "$(setting REGISTRY_PUSH)" --pull-from "$(setting REGISTRY_PULL)" --plain-http --yes trust.json
  install -d -o 65532 -g 65532 "$work/cache"
  chmod 0755 "$work"
  printf 'pools: {llm: {replicas: 0}}\nmodels: {cache: %s}\n' "$work/cache" >fetch.yaml
  printf 'pools: {llm: {replicas: 0}}\nmodels: {as: volume}\n' >volume.yaml
}

# found_there POOL: every image of the pool's pods was on the node when they came, and none had to be pulled.
found_there() {
  local pod
  for pod in $(kubectl get pods -l "app.kubernetes.io/component=$1" -o 'jsonpath={.items[*].metadata.name}'); do
    if kubectl get events --field-selector "involvedObject.name=$pod,reason=Pulling" -o name | grep -q .; then
      say "pod $pod had to pull"
      return 1
    fi
  done
  [ -z "$(kubectl get pods,configmaps -o name | grep wcbundle-fetch || true)" ] || { say "something that fetched is left" && return 1; }
}

# mounted POOL: what the pool's processes see in /models is the model of the fixtures.
mounted() {
  local want found=0 cgroup pid uid
  want=$(cd "fixtures/r2/models/$1" && sha256sum ./* | sort)
  for uid in $(kubectl get pods -l "app.kubernetes.io/component=$1" -o 'jsonpath={.items[*].metadata.uid}'); do
    for cgroup in /proc/[0-9]*/cgroup; do
      pid=${cgroup#/proc/}
      pid=${pid%/cgroup}
      if ! grep -q "$uid" "$cgroup" 2>/dev/null || ! grep -q ' /models ro' "/proc/$pid/mountinfo"; then continue; fi
      [ "$(cd "/proc/$pid/root/models" && sha256sum ./* | sort)" = "$want" ] || { say "a pod of $1 has other bytes" && return 1; }
      found=$((found + 1))
    done
  done
  [ "$found" -ge 2 ] || { say "only $found processes of $1 have the model mounted" && return 1; }
  say "$found processes of $1 read the right bytes from an image volume"
}

prepare >&2
at_site load r1.wcb >&2
at_site apply -f fetch.yaml --prefetch required --yes >&2
at_site load r2.wcb >&2
at_site apply -f fetch.yaml --prefetch required --yes >&2
found_there asr
say "after the upgrade no pod of asr had to pull, and the node's cache has $(find cache -name '*.json' | wc -l) files"
at_site apply -f volume.yaml --prefetch required --yes >&2
found_there asr
mounted asr
mounted diarize
at_site rollback --to previous --yes >&2
say "image volumes and fetching before a pool rolls work"
