#!/bin/bash
# Takes a site down and leaves nothing of it: processes, namespaces, routes, cgroups, state. Safe to run again, and on
# what a crashed run has left. SITE, SITE_ID and STATE as for up.sh.
#
# Only processes whose pid up.sh recorded are ended, and only while their command line still names this site's state
# directory: a pid that has been given to another process since is left alone.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$HERE/lib.sh"

# ours PID: whether the process lives and is one that up.sh started for this site.
ours() {
  [ -n "$1" ] && [ -r "/proc/$1/cmdline" ] && tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | grep -qF "$STATE/"
}

# A node is one pid, see node.sh. The cluster is thrown away, so nothing is asked to end in peace.
kill_recorded() {
  local f pid
  for f in "$STATE"/pids/*; do
    [ -e "$f" ] || continue
    pid=$(cat "$f")
    if ours "$pid" && kill -KILL "$pid"; then wait_gone "$pid"; fi
  done
}

wait_gone() {
  local _
  for _ in $(seq 100); do
    ours "$1" || return 0
    sleep 0.1
  done
  die "process $1 does not end"
}

site_namespaces() { ip netns list | awk '{print $1}' | grep -E "^$NETNS(-n[0-9]+)?\$" || [ $? = 1 ]; }

# A killed node takes a moment to go. What up.sh did not record is named, not killed.
is_empty() {
  local left
  left=$(ip netns pids "$1")
  [ -z "$left" ] || { echo "processes in namespace $1: ${left//$'\n'/ }" && return 1; }
}

remove_network() {
  local ns
  for ns in $(site_namespaces); do
    wait_for 10 is_empty "$ns"
    ip netns del "$ns"
  done
  if ip link show "wcb${SITE_ID}op" >/dev/null 2>&1; then ip link del "wcb${SITE_ID}op"; fi
  if [ -n "$(ip route show type unreachable "$NET.0.0/16")" ]; then ip route del unreachable "$NET.0.0/16"; fi
}

# The kernel takes a moment to empty the cgroups of a killed pid namespace.
remove_cgroups() {
  local top
  for top in /sys/fs/cgroup/wcb-"$SITE" /sys/fs/cgroup/*/wcb-"$SITE"; do
    [ -d "$top" ] && wait_for 10 remove_tree "$top"
  done
  return 0
}

remove_tree() { find "$1" -depth -type d -exec rmdir {} +; }

need_root
if [ "$STATE" = / ]; then die "STATE is not a directory of its own"; fi
kill_recorded
remove_network
remove_cgroups
if [ -d "$STATE" ]; then
  [ -e "$STATE/pids" ] || [ -z "$(ls -A "$STATE")" ] || die "$STATE is not the state of a site: it has no pids"
  rm -rf --one-file-system "$STATE"
fi
log "site $SITE is down"
