#!/bin/bash
# Builds the binaries of the test cluster into the cache and prints their directory; does nothing when they are there.
# With CONTAINERD=2 it prints a second line, the directory of containerd 2.
# The directory's name is a hash of all that decides the bytes, so a change builds anew and a branch switch does not.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$HERE/lib.sh"

PACKAGES=(containerd runc containernetworking-plugins iptables nftables conntrack iproute2)

# Debian packages, where one is missing. Their versions are the distribution's: containerd 1.6 on bookworm.
install_packages() {
  local missing=() p
  for p in "${PACKAGES[@]}"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  need_root
  log "installing ${missing[*]}"
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >&2
}

# What the bytes of the binaries depend on.
fingerprint() {
  cd "$HERE"
  { cat go.mod go.sum kcluster/*.go pause/*.go && echo "$KWOK_VERSION" && go env GOVERSION GOARCH; } | sha256sum | cut -c1-16
}

# Charts ask the API server for its version, and a plain go build leaves it empty.
version_flags() {
  local version major minor p flags=""
  version=$(cd "$HERE" && go list -m -f '{{.Version}}' k8s.io/kubernetes)
  IFS=. read -r major minor _ <<<"${version#v}"
  for p in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags+=" -X $p.gitVersion=$version -X $p.gitMajor=$major -X $p.gitMinor=$minor -X $p.gitTreeState=clean"
    flags+=" -X $p.gitCommit=0000000000000000000000000000000000000000 -X $p.buildDate=2026-01-01T00:00:00Z"
  done
  echo "$flags"
}

# One binary at a time: linking kcluster alone takes 2.4 GB of memory.
build_into() {
  local out=$1 part
  cd "$HERE"
  CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$out/pause" ./pause
  log "building kcluster (Kubernetes and etcd)"
  CGO_ENABLED=0 go build -trimpath -ldflags "-s -w $(version_flags)" -o "$out/kcluster" ./kcluster
  log "building kwok $KWOK_VERSION"
  GOBIN=$out CGO_ENABLED=0 go install -trimpath -ldflags "-s -w" "sigs.k8s.io/kwok/cmd/kwok@$KWOK_VERSION"
  for part in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
    ln -s kcluster "$out/$part"
  done
  binary_image "$out/pause" /pause docker.io/wcbundle/pause:1 '[]' "$out/pause.tar"
}

# Its go.mod has exclude directives, so that go install refuses it by its name: it is built as a main module, from a copy without the
# vendor directory, which the module has in part only.
build_containerd() {
  local out=$1 name source
  source=$(mktemp -d "$CACHE/source.XXXXXX")
  (cd / && go mod download "github.com/containerd/containerd/v2@$CONTAINERD_VERSION")
  cp -r "$(go env GOMODCACHE)/github.com/containerd/containerd/v2@$CONTAINERD_VERSION/." "$source"
  chmod -R u+w "$source"
  rm -rf "$source/vendor"
  for name in containerd containerd-shim-runc-v2 ctr; do
    (cd "$source" && CGO_ENABLED=0 GOFLAGS='' go build -mod=mod -trimpath -buildvcs=false \
      -ldflags "-s -w -X github.com/containerd/containerd/v2/version.Version=$CONTAINERD_VERSION" -o "$out/$name" "./cmd/$name")
  done
  rm -rf "$source"
}

containerd2() {
  local dir partial
  dir=$CACHE/containerd-$CONTAINERD_VERSION-$(go env GOVERSION)-$(go env GOARCH)
  if [ ! -d "$dir" ]; then
    log "building containerd $CONTAINERD_VERSION, once: about 3 minutes on 2 cores"
    mkdir -p "$CACHE"
    partial=$(mktemp -d "$CACHE/partial.XXXXXX")
    build_containerd "$partial" >&2
    chmod 0755 "$partial"
    mv -T "$partial" "$dir"
  fi
  echo "$dir"
}

main() {
  local dir partial
  install_packages
  dir=$CACHE/cluster-$(fingerprint)
  if [ ! -d "$dir" ]; then
    log "no cluster binaries in $dir: building them, about 7 minutes on 2 cores and 3 GB of Go build cache"
    mkdir -p "$CACHE"
    partial=$(mktemp -d "$CACHE/partial.XXXXXX")
    trap 'rm -rf "$partial"' EXIT
    build_into "$partial"
    chmod 0755 "$partial"
    mv -T "$partial" "$dir"
    trap - EXIT
    log "built"
  fi
  echo "$dir"
  [ "$CONTAINERD" != 2 ] || containerd2
}

main
