#!/usr/bin/env bash
# The demo itself, once everything is built; called by ./demo. Brings up the bookstore in a mesh of its own, shows what
# the mesh does, checks each of it, and takes it down.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
. scripts/steps.sh
. scripts/demo/show.sh
. scripts/demo/ask.sh
. scripts/demo/chapters.sh

keep=''
[ "${1:-}" != --keep ] || keep=yes
name=${OSM_DEMO_NAME:-demo}
began=$(date +%s%N)
folder=$(mktemp -d)

finish() {
  status=$?
  trap - EXIT
  if [ -z "$keep" ]; then
    local_osm down >/dev/null 2>&1
  fi
  rm -rf "$folder"
  exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

what_to_try() {
  cat <<TEXT

the mesh stays up. try:
  export OSM_LOCAL_NAME=$name PATH=$PWD/target/ci:\$PATH
  osm local status
  osm local logs -f $thief -c bookthief
  osm local apply -f examples/bookstore/policies-allow-bookthief.yaml      # the thief may buy, but not ask for counts
  osm local apply -f examples/bookstore/mesh-config-permissive.yaml        # everybody may do everything
  osm local exec $buyer -- $PWD/target/ci/osm-demo once http://bookstore.bookstore:14001/books-bought
  osm local startup bookbuyer/once
  osm proxy get clusters $buyer
and when done: osm local down
TEXT
}

local_osm down >/dev/null 2>&1
tables_of_the_machine >"$folder/before"
permissive_mode
smi_mode
encrypted_wire
pod_of_issue_2316
job_that_completes
a_dead_controller
machine_as_before

took=$((($(date +%s%N) - began) / 1000000))
printf '\n%sfrom manifests to the last check: %d.%01d s%s\n' "$bold" $((took / 1000)) $((took % 1000 / 100)) "$plain"
[ -z "$keep" ] || what_to_try
[ $failures = 0 ] || fail "$failures of the checks did not hold" "run it again with --keep and look at: target/ci/osm local status --name $name"
printf '%severything is as it should be%s\n' "$green" "$plain"
