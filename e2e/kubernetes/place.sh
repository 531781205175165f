# Where a cluster is, and what it is called. Sourced by scripts/cluster and by the node itself.
# shellcheck shell=bash disable=SC2034 # its readers use these

root=${root:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
folder=$(realpath -m "${OSM_CLUSTER:-$root/build/cluster}")

# Cgroups are the machine's, not the namespace's, so each cluster has a root of its own.
cgroup_root=/osm-$(printf '%s' "$folder" | sha256sum | cut -c1-8)
cgroup_controllers=(cpu cpuacct cpuset memory devices freezer blkio pids systemd unified hugetlb)

node_name=node
node_address=172.30.0.2
node_gateway=172.30.0.1
pod_ranges=(10.244.0.0/24)
service_ranges=(10.96.0.0/16)
node_addresses=("$node_address")
# Pods and services have both families, where the machine has.
if [ -e /proc/net/if_inet6 ]; then
  pod_ranges+=(fd00:10:244::/64)
  service_ranges+=(fd00:10:96::/112)
  node_addresses+=(fd00:172:30::2)
fi
api_service_address=10.96.0.1
dns_address=10.96.0.10
containerd_socket=/run/containerd-osm.sock

# with_commas WORD...
with_commas() {
  local IFS=,
  printf '%s' "$*"
}

# The number of a process that has ended may be another's by now, so its command line must name this folder.
is_up() {
  local process
  process=$(cat "$folder/node.pid" 2>/dev/null) && tr '\0' ' ' 2>/dev/null <"/proc/$process/cmdline" | grep -qF "node.sh $folder "
}
