#!/usr/bin/env bash
# Installs the mesh on a throwaway Kubernetes of its own, runs the end-to-end scenarios there, takes both away again, and
# holds the machine to having nothing left of them. Called by ./test --kubernetes; needs root and the programs in target/ci.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
. scripts/steps.sh
. e2e/kubernetes/remains.sh

export OSM_CLUSTER=${OSM_CLUSTER:-$PWD/build/test-cluster}

cluster() { scripts/cluster "$@"; }
osm() { cluster exec target/ci/osm "$@"; }
helm() { cluster exec "$helm_program" "$@"; }

finish() {
  status=$?
  trap - EXIT
  [ $status = 0 ] || show_what_went_wrong
  cluster down >/dev/null
  exit $status
}

show_what_went_wrong() {
  cp -r "$folder/log" "$log_folder/cluster" 2>/dev/null
  printf '\nwhat the cluster says (its logs are in %s):\n' "$log_folder/cluster" >&2
  {
    cluster kubectl get pods -A -o wide
    cluster kubectl get events -A --sort-by=.lastTimestamp | tail -n 20
    cluster kubectl logs -n osm-system deployment/osm-controller --tail=30
  } >&2
}

install_by_helm() {
  helm install osm charts/osm --namespace osm-system --create-namespace --set osm.image.pullPolicy=Never --wait --timeout 120s
}

# Helm never takes CRDs away, since with them go everybody's objects.
uninstall_by_helm() {
  helm uninstall osm --namespace osm-system --wait --timeout 60s &&
    cluster kubectl delete namespace osm-system --timeout=60s &&
    cluster kubectl delete --timeout=60s -f charts/osm/crds
}

cluster down >/dev/null
trap finish EXIT
trap 'exit 130' INT TERM
machine >"$log_folder/machine-before.txt"
# Should this script be killed, the cluster ends nevertheless.
cluster up --owner $$ || exit 1
step "images" images/build
cluster import || exit 1
shown_step "the cluster itself" e2e/kubernetes/check
shown_step "the CRDs" e2e/kubernetes/check-objects
step "osm install" osm install --set=osm.image.pullPolicy=Never --timeout 120s
shown_step "the webhooks" e2e/kubernetes/check-objects --installed
shown_step "scenarios" target/ci/osm-e2e --kubernetes "$@"
step "osm uninstall mesh" osm uninstall mesh --force --delete-namespace --delete-cluster-wide-resources
step "nothing of the mesh is left in the cluster" nothing_left_in_the_cluster
helm_program=$(scripts/helm.sh) || fail "helm could not be built" "scripts/helm.sh says why"
step "helm install" install_by_helm
shown_step "the bookstore in a mesh that helm installed" target/ci/osm-e2e --kubernetes bookstore-in-both-modes
step "helm uninstall" uninstall_by_helm
step "nothing of the mesh is left after helm either" nothing_left_in_the_cluster
remember_what_runs
cluster down || exit 1
step "nothing of the cluster is left on the machine" nothing_left_on_the_machine "$log_folder/machine-before.txt"
trap - EXIT
print_steps
