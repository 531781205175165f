# What a mesh leaves in a cluster, and a cluster on its machine: nothing. Sourced by scripts/test-kubernetes.sh.
# shellcheck shell=bash

# shellcheck source=e2e/kubernetes/place.sh
. e2e/kubernetes/place.sh

nothing_left_in_the_cluster() {
  local kinds found
  kinds=$(cluster kubectl api-resources --verbs=list --output=name | grep -v -e '^events' -e '^componentstatuses' | paste -sd,) || return 1
  found=$(cluster kubectl get "$kinds" --all-namespaces --ignore-not-found --output=name) || return 1
  ! grep -E 'osm|openservicemesh|smi-spec' <<<"$found"
}

# What of the machine a cluster must not change.
machine() {
  { iptables-nft-save; iptables-legacy-save; ip6tables-nft-save; } 2>/dev/null | grep -v '^#' | sed 's/\[[0-9:]*\]//'
  ip -o link | sed 's/^[0-9]*: //; s/ qlen .*//'
  ip netns list
}

# Network namespaces have no names that could be looked for later, only numbers.
remember_what_runs() {
  remembered_namespaces=$(cluster node sh -c 'readlink /proc/[0-9]*/ns/net' | sort -u)
  [ -n "$remembered_namespaces" ] || fail "no processes are seen in the cluster" "scripts/cluster status"
}

# nothing_left_on_the_machine BEFORE: compares with what `machine` printed then, and looks for all that has the cluster's name.
nothing_left_on_the_machine() {
  local found='' namespace
  found+=$(grep -lsF -e "$folder" -e "${cgroup_root#/}" /proc/[0-9]*/cgroup)
  found+=$(pgrep -af -- "$folder/")
  found+=$(grep -F -e "$folder" /proc/self/mountinfo)
  found+=$(find /sys/fs/cgroup -maxdepth 2 -path "*$cgroup_root")
  for namespace in $remembered_namespaces; do
    found+=$(find /proc/[0-9]*/ns/net -lname "$namespace" 2>/dev/null | head -n 3)
    found+=$(grep -F " $namespace " /proc/self/mountinfo)
  done
  [ ! -e "$folder" ] || found+="the folder $folder: $(ls "$folder")"
  found+=$(machine | diff "$1" -)
  [ -z "$found" ] || { printf 'left behind:\n%s\n' "$found"; return 1; }
}
