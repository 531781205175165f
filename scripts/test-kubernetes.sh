#!/usr/bin/env bash
# The part of ./test that needs a real Kubernetes: on a cluster of its own it installs the mesh, runs the scenarios,
# takes the mesh away, and looks whether anything is left behind. Called by ./test --kubernetes, once everything is built.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
root=$PWD
. scripts/steps.sh
. scripts/setup.sh
. e2e/kubernetes/place.sh
. e2e/kubernetes/lifecycle.sh
count=${1:-20}

cluster() { scripts/cluster "$@"; }
osm() { cluster exec "$root/target/ci/osm" "$@"; }

finish() {
  local status=$?
  trap - EXIT
  [ $status = 0 ] || cp -r "$folder/log" "$log_folder/cluster" 2>/dev/null
  cluster down >/dev/null 2>&1
  exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

# What a cluster could leave on the machine: mounts, links, namespaces, processes, rules, cgroups.
machine() {
  findmnt --noheadings --list --output TARGET | grep -F "$folder"
  ip -o link | sed 's/^[0-9]*: //; s/ qlen .*//' | cut -d' ' -f1-3
  { iptables-nft-save; iptables-legacy-save; } 2>/dev/null | grep -v '^#' | sed 's/\[[0-9:]*\]//'
  pgrep -a -f "$folder" | grep -v -e pgrep -e end-with
  find /sys/fs/cgroup -maxdepth 2 -name "$(basename "$cgroup_root")"
}

nothing_left() {
  machine >"$log_folder/machine-after.txt"
  diff "$log_folder/machine-before.txt" "$log_folder/machine-after.txt"
}

mesh_is_gone() {
  local kinds left
  kinds=$(cluster kubectl api-resources --verbs=list --output=name | grep -v -e '^events' -e '^componentstatuses' -e metrics | paste -sd,) || return 1
  left=$(cluster kubectl get "$kinds" --all-namespaces --ignore-not-found --output=name 2>/dev/null |
    grep -i -e osm -e openservicemesh | grep -v -e '^customresourcedefinition' -e "^namespace/")
  [ -z "$left" ] || { echo "left after osm uninstall mesh:"; echo "$left"; return 1; }
}

! is_up || fail "a cluster of an earlier run is up in $folder" "OSM_CLUSTER=$folder scripts/cluster down"
machine >"$log_folder/machine-before.txt"
build_cluster_program
step "images, without a registry" images/build
shown_step "a cluster of its own" cluster up --owner $$
shown_step "images into the cluster" cluster import
step "osm install" osm install --set=osm.image.pullPolicy=Never --timeout=120s
shown_step "scenarios on a real Kubernetes" target/ci/osm-e2e --kubernetes --count "$count"
step "osm uninstall mesh" osm uninstall mesh --force --delete-namespace
step "nothing of the mesh is left in the cluster" mesh_is_gone
shown_step "cluster down" cluster down
step "nothing of the cluster is left on the machine" nothing_left
trap - EXIT
print_steps
