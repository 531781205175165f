#!/usr/bin/env bash
# The demo on a real Kubernetes, once everything is built; called by ./demo --kubernetes. Without a context it brings up a
# throwaway cluster on this machine, and takes it down again.
# usage: scripts/demo-kubernetes.sh [--keep] [--context NAME] [-- INSTALL-FLAG...]
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
. scripts/steps.sh
. scripts/demo/show.sh

keep='' context='' installed='' install_flags=(--timeout 120s)
# Another machine's load must not fail a demo.
patience=60
while [ $# -gt 0 ]; do
  case $1 in
    --keep) keep=yes ;;
    --context) context=${2:?--context needs a name}; shift ;;
    --) shift; install_flags+=("$@"); break ;;
    *) fail "unknown option $1" ;;
  esac
  shift
done
# shellcheck source=scripts/demo/kubernetes.sh
. scripts/demo/kubernetes.sh
export OSM_CLUSTER=${OSM_CLUSTER:-$PWD/build/demo-cluster}
[ -n "$context" ] || install_flags+=(--set=osm.image.pullPolicy=Never)
began=$(date +%s%N)
folder=$(mktemp -d)

finish() {
  status=$?
  trap - EXIT
  stop_forwards
  if [ -z "$keep" ] && [ -z "$context" ]; then
    scripts/cluster down >/dev/null
  elif [ -z "$keep" ] && [ -n "$installed" ]; then
    # Half of a demo in somebody's own cluster is worse than none.
    kubectl delete namespace --ignore-not-found "${shops[@]}" >/dev/null 2>&1
    osm uninstall mesh --force --delete-namespace >/dev/null 2>&1
  fi
  rm -rf "$folder"
  exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

cluster_of_our_own() {
  local owner=(--owner $$)
  [ -z "$keep" ] || owner=()
  scripts/cluster down >/dev/null
  scripts/cluster up "${owner[@]}" || exit 1
  step "images" images/build
  scripts/cluster import || exit 1
}

what_to_try() {
  [ -n "$context" ] || cat <<TEXT

the cluster stays up. try:
  export OSM_CLUSTER=$OSM_CLUSTER
  scripts/cluster kubectl get pods -A
  scripts/cluster kubectl logs -n bookthief deployment/bookthief -c bookthief -f
  scripts/cluster exec target/ci/osm proxy get clusters bookbuyer/POD
  scripts/cluster exec bash                        # a shell in which osm, kubectl and helm reach the cluster
and when done: scripts/cluster down
TEXT
}

[ -n "$context" ] || cluster_of_our_own
install_the_mesh
open_the_bookstore
deny_the_thief
pod_that_connects_at_once
[ -n "$keep" ] || close_the_bookstore

took=$((($(date +%s%N) - began) / 1000000))
printf '\n%sfrom an empty machine to the last check: %d.%01d s%s\n' "$bold" $((took / 1000)) $((took % 1000 / 100)) "$plain"
[ -z "$keep" ] || what_to_try
[ $failures = 0 ] || fail "$failures of the checks did not hold" "run it again with --keep, and look at: scripts/cluster kubectl get pods -A"
printf '%severything is as it should be%s\n' "$green" "$plain"
