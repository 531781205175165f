# Building the cluster's program, bringing a cluster up, taking it down. Sourced by scripts/cluster and ./test.
# shellcheck shell=bash

# shellcheck source=e2e/kubernetes/configure.sh
. "$root/e2e/kubernetes/configure.sh"

kubernetes_version=$(sed -n 's/^\tk8s.io\/kubernetes \(v.*\)$/\1/p' "$root/e2e/kubernetes/program/go.mod")

# How long the parts may take to answer; on an idle machine each takes a few seconds.
limit_s=120

set_up_cluster_packages() {
  local pair missing=''
  for pair in containerd:containerd runc:runc openssl:openssl nsenter:util-linux go:golang-go conntrack:conntrack; do
    command -v "${pair%%:*}" >/dev/null || missing+="${pair##*:} "
  done
  [ -e /usr/lib/cni/bridge ] || missing+='containernetworking-plugins '
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null ||
    fail "these packages are missing, and there is no apt-get to install them: $missing" "install them by hand and run it again"
  step "packages: ${missing% }" install_packages "$missing"
}

# The program by the content of what it is made of, outside the checkout.
cluster_program() {
  local made_of
  made_of=$(cat "$root"/e2e/kubernetes/program/{go.mod,go.sum,main.go} | sha256sum | cut -c1-16)
  printf '%s/cluster-%s/cluster' "$cache" "$made_of"
}

build_cluster_program() {
  set_up_cluster_packages
  local program
  program=$(cluster_program)
  [ -x "$program" ] || step "Kubernetes $kubernetes_version, etcd and CoreDNS as one program" compile_cluster_program "$program"
}

compile_cluster_program() {
  local base=k8s.io/component-base/version client=k8s.io/client-go/pkg/version minor
  minor=$(printf '%s' "$kubernetes_version" | cut -d. -f2)
  mkdir -p "$(dirname "$1")"
  # Two builds of one program wait for each other, and the second finds it there.
  exec 8>"$(dirname "$1")/lock" && flock 8 && [ ! -x "$1" ] || return 0
  (
    cd "$root/e2e/kubernetes/program" &&
      CGO_ENABLED=0 GOFLAGS=-mod=readonly nice -n 5 go build -v -trimpath -o "$1.new" -ldflags "-s -w \
        -X $base.gitVersion=$kubernetes_version -X $base.gitMajor=1 -X $base.gitMinor=$minor -X $client.gitVersion=$kubernetes_version" .
  ) && mv "$1.new" "$1"
}

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
  step "cluster: API server" start_node
  step "cluster: node and default service account" wait_for_node
  if [ -n "$owner" ]; then
    OSM_CLUSTER=$folder setsid "$root/e2e/kubernetes/end-with.sh" "$owner" >/dev/null 2>&1 &
  fi
}

start_node() {
  OSM_CLUSTER=$folder setsid unshare --mount --net --pid --ipc --uts --fork --kill-child --mount-proc --propagation private \
    "$root/e2e/kubernetes/node.sh" >"$folder/log/node.log" 2>&1 </dev/null &
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
  process=$(cat "$folder/node.pid" 2>/dev/null) || return 0
  kill -KILL "$process" 2>/dev/null
  while [ -d "/proc/$process" ]; do
    [ $((tries += 1)) -lt 300 ] || { echo "the node's first process $process does not end"; return 1; }
    sleep 0.1
  done
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
  rm -rf "$folder"/{bin,pki,log,etcd,containerd,kubelet,cni,cni-state,pod-logs,container-logs,imported} \
    "$folder"/{*.kubeconfig,*.yaml,*.toml,Corefile,resolv.conf,node.pid}
  rmdir "$folder" 2>/dev/null
  return 0
}

restart_node() {
  is_up || fail "no cluster is up in $folder" "scripts/cluster up"
  step "node down" stop_node
  step "node up again" start_node
  step "node ready again" wait_until "the node is ready" administer wait --for=condition=Ready --timeout=1s "node/$node_name"
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
