# What a mesh leaves in a cluster, and a cluster on its machine: nothing. Sourced by scripts/test-kubernetes.sh.
# shellcheck shell=bash

# shellcheck source=e2e/kubernetes/place.sh
. e2e/kubernetes/place.sh

nothing_left_in_the_cluster() {
  local found
  found=$(
    cluster kubectl get customresourcedefinitions,clusterroles,clusterrolebindings,mutatingwebhookconfigurations -o name
    cluster kubectl get validatingwebhookconfigurations,priorityclasses,namespaces -o name
    cluster kubectl get secrets,configmaps,leases,deployments,services -A -o name
  ) || return 1
  ! grep -E 'openservicemesh|smi-spec|[/-]osm' <<<"$found"
}

# Network namespaces have no names that could be looked for later, only numbers.
remember_what_runs() {
  remembered_namespaces=$(cluster node sh -c 'readlink /proc/[0-9]*/ns/net' | sort -u)
  [ -n "$remembered_namespaces" ] || fail "no processes are seen in the cluster" "scripts/cluster status"
}

nothing_left_on_the_machine() {
  local found='' namespace
  found+=$(grep -lsF -e "$folder" -e "${cgroup_root#/}" /proc/[0-9]*/cgroup 2>/dev/null)
  # Not this script itself, which has the folder in no argument.
  found+=$(pgrep -af -- "$folder/")
  found+=$(grep -F -e "$folder" /proc/self/mountinfo)
  found+=$(find /sys/fs/cgroup -maxdepth 2 -path "*$cgroup_root")
  for namespace in $remembered_namespaces; do
    found+=$(find /proc/[0-9]*/ns/net -lname "$namespace" 2>/dev/null | head -n 3)
    found+=$(grep -F " $namespace " /proc/self/mountinfo)
  done
  [ ! -e "$folder" ] || found+="the folder $folder: $(ls "$folder")"
  [ -z "$found" ] || { printf 'left behind:\n%s\n' "$found"; return 1; }
}
