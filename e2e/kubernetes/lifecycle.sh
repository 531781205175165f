# Building the cluster's program, bringing a cluster up, taking it down. Sourced by scripts/cluster and ./test.
# shellcheck shell=bash

# shellcheck source=e2e/kubernetes/program.sh
. "$root/e2e/kubernetes/program.sh"
# shellcheck source=e2e/kubernetes/configure.sh
. "$root/e2e/kubernetes/configure.sh"

# How long the parts may take to answer; on an idle machine each takes a few seconds.
limit_s=120

# wait_until WHAT COMMAND...: looks until the command succeeds; says what did not happen in time, or that the node has ended.
wait_until() {
  local what=$1 deadline=$((SECONDS + limit_s))
  shift
  until "$@" >/dev/null 2>&1; do
    is_up || { echo "the node has ended; its log:"; tail -n 20 "$folder/log/node.log"; return 1; }
    [ $SECONDS -lt $deadline ] || { echo "waited $limit_s s until $what"; tail -n 5 "$folder"/log/*.log; return 1; }
    sleep 0.2
  done
}

administer() {
  "$root/scripts/cluster" kubectl "$@"
}

cluster_up() {
  local owner=''
  case ${1:-} in
    --owner) owner=${2:?--owner needs a process} ;;
    '') ;;
    *) fail "unknown option $1" ;;
  esac
  [ "$(id -u)" = 0 ] || fail "namespaces need root" "run it again with sudo, or as root"
  ! is_up || fail "a cluster is up in $folder already" "scripts/cluster down takes it down"
  build_cluster_program
  forget_state
  mkdir -p "$folder"
  step "cluster: keys and configuration" write_configuration "$(cluster_program)"
  if [ -n "$owner" ]; then
    echo "$owner" >"$folder/owner"
    OSM_CLUSTER=$folder setsid "$root/e2e/kubernetes/end-with.sh" "$owner" >/dev/null 2>&1 </dev/null &
  fi
  step "cluster: API server" start_node
  step "cluster: node and default service account" wait_for_node
}

start_node() {
  OSM_CLUSTER=$folder setsid unshare --mount --net --pid --ipc --uts --fork --kill-child --mount-proc --propagation private \
    "$root/e2e/kubernetes/node.sh" "$folder" >"$folder/log/node.log" 2>&1 </dev/null &
  local parent=$! child='' tries=0
  while [ -z "$child" ]; do
    child=$(cut -d' ' -f1 "/proc/$parent/task/$parent/children" 2>/dev/null)
    [ $((tries += 1)) -lt 200 ] || { echo "the node did not start:"; cat "$folder/log/node.log"; return 1; }
    sleep 0.05
  done
  echo "$child" >"$folder/node.pid"
  wait_until "the API server is ready" administer get --raw /readyz
}

wait_for_node() {
  administer apply -f "$folder/dns.yaml" &&
    wait_until "the node is registered" administer get node "$node_name" &&
    wait_until "the node is ready" administer wait --for=condition=Ready --timeout=1s "node/$node_name" &&
    wait_until "the default service account is there" administer get serviceaccount default
}

# Every process of the node ends with its first one, and with them the namespaces and mounts.
stop_node() {
  local process tries=0
  if is_up; then
    process=$(cat "$folder/node.pid")
    kill -KILL "$process"
    while [ -d "/proc/$process" ]; do
      [ $((tries += 1)) -lt 300 ] || { echo "the node's first process $process does not end"; return 1; }
      sleep 0.1
    done
  fi
  rm -f "$folder/node.pid"
  remove_cgroups
}

remove_cgroups() {
  local controller tries=0 left=yes
  while [ -n "$left" ]; do
    left=''
    for controller in "${cgroup_controllers[@]}" .; do
      [ -d "/sys/fs/cgroup/$controller$cgroup_root" ] || continue
      find "/sys/fs/cgroup/$controller$cgroup_root" -depth -type d -exec rmdir {} + 2>/dev/null
      [ ! -d "/sys/fs/cgroup/$controller$cgroup_root" ] || left=yes
    done
    [ $((tries += 1)) -lt 50 ] || { echo "some cgroups of $cgroup_root are still in use"; return 1; }
    [ -z "$left" ] || sleep 0.1
  done
}

cluster_down() {
  step "cluster down" stop_node
  forget_state
}

# Only what a cluster makes: the folder is the user's choice.
forget_state() {
  rm -rf "${folder:?}"/{bin,pki,log,etcd,containerd,kubelet,cni,cni-state,pod-logs,container-logs,imported} \
    "$folder"/{*.kubeconfig,*.yaml,*.toml,Corefile,resolv.conf,pause.oci.tar,node.pid,owner}
  rmdir "$folder" 2>/dev/null
  return 0
}

restart_node() {
  is_up || fail "no cluster is up in $folder" "scripts/cluster up"
  step "node down" stop_node
  step "node up again" start_node
  step "node ready again" wait_for_node_again
}

# What the API server says of the node is from before at first, so the kubelet itself is asked.
wait_for_node_again() {
  wait_until "the kubelet answers" administer get --raw "/api/v1/nodes/$node_name/proxy/healthz" &&
    wait_until "the node is ready" administer wait --for=condition=Ready --timeout=1s "node/$node_name"
}

import_images() {
  is_up || fail "no cluster is up in $folder" "scripts/cluster up"
  [ $# -gt 0 ] || set -- "$root"/build/images/*.oci.tar
  [ -e "$1" ] || fail "there is no image $1" "images/build makes them"
  mkdir -p "$folder/imported"
  local archive content mark
  for archive in "$@"; do
    content=$(sha256sum <"$archive" | cut -d' ' -f1)
    mark="$folder/imported/$content"
    [ -e "$mark" ] || step "import $(basename "$archive" .oci.tar)" import_image "$(realpath "$archive")"
    touch "$mark"
  done
}

import_image() {
  "$root/scripts/cluster" node ctr --address "$containerd_socket" --namespace k8s.io images import "$1"
}
