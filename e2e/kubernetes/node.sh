#!/usr/bin/env bash
# The first process of a node, in namespaces of its own: sets up its network and mounts, starts the parts of Kubernetes,
# and starts each again that ends.
set -u
. "$(dirname "$0")/place.sh"
export PATH=$folder/bin:/usr/sbin:/usr/bin:/sbin:/bin

hostname "$node_name"
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock /var/lib/cni /var/log/pods /var/log/containers
mount --bind "$folder/cni-state" /var/lib/cni
mount --bind "$folder/pod-logs" /var/log/pods
mount --bind "$folder/container-logs" /var/log/containers
# The kubelet sets these, and they are the whole machine's; here it reads and writes copies.
for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  copy=/run/${setting//\//-}
  cat "/proc/sys/$setting" >"$copy" && mount --bind "$copy" "/proc/sys/$setting"
done
# Mounts of pods must be seen by containerd and kubelet alike.
mount --make-rshared /

ip link set lo up
# A node needs an address on a device that is up; there is nobody at the other end.
ip link add eth0 type veth peer name eth0-peer
for address in "${node_addresses[@]}"; do
  case $address in
    *:*)
      ip address add "$address/64" dev eth0 nodad
      sysctl -qw net.ipv6.conf.all.forwarding=1 net.bridge.bridge-nf-call-ip6tables=1
      ;;
    *) ip address add "$address/24" dev eth0 ;;
  esac
done
ip link set eth0 up
ip link set eth0-peer up
ip route add default via "$node_gateway"
sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1

for controller in "${cgroup_controllers[@]}"; do
  [ ! -d "/sys/fs/cgroup/$controller" ] || mkdir -p "/sys/fs/cgroup/$controller$cgroup_root"
done
# A new cpuset has neither processors nor memory.
for file in cpuset.cpus cpuset.mems; do
  [ ! -e "/sys/fs/cgroup/cpuset/$file" ] || cat "/sys/fs/cgroup/cpuset/$file" >"/sys/fs/cgroup/cpuset$cgroup_root/$file"
done

# part NAME ARGUMENT...: keeps a part running.
part() {
  local name=$1
  shift
  while :; do
    "$folder/bin/$name" "$@"
    echo "$name ended with exit status $?"
    sleep 0.2
  done >>"$folder/log/$name.log" 2>&1 &
}

part etcd --name=node --data-dir="$folder/etcd" \
  --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 \
  --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 \
  --initial-cluster=node=http://127.0.0.1:2380 --unsafe-no-fsync --log-level=warn
part containerd --config="$folder/containerd.toml"
part kube-apiserver --etcd-servers=http://127.0.0.1:2379 --advertise-address="$node_address" --secure-port=6443 \
  --tls-cert-file="$folder/pki/api-server.crt" --tls-private-key-file="$folder/pki/api-server.key" \
  --client-ca-file="$folder/pki/ca.crt" --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
  --allow-privileged=true --service-cluster-ip-range="$(with_commas "${service_ranges[@]}")" \
  --service-account-issuer=https://kubernetes.default.svc.cluster.local \
  --service-account-key-file="$folder/pki/accounts.pub" --service-account-signing-key-file="$folder/pki/accounts.key" \
  --kubelet-client-certificate="$folder/pki/api-server-to-kubelet.crt" \
  --kubelet-client-key="$folder/pki/api-server-to-kubelet.key" --kubelet-preferred-address-types=InternalIP

until kubectl --kubeconfig="$folder/admin.kubeconfig" get --raw /readyz >/dev/null 2>&1; do sleep 0.2; done
until [ -S "$containerd_socket" ]; do sleep 0.1; done
ctr --address "$containerd_socket" --namespace k8s.io images import "$folder/pause.oci.tar" >>"$folder/log/containerd.log" 2>&1

part kube-controller-manager --kubeconfig="$folder/controller-manager.kubeconfig" --leader-elect=false \
  --use-service-account-credentials=true --service-account-private-key-file="$folder/pki/accounts.key" \
  --root-ca-file="$folder/pki/ca.crt" --cluster-signing-cert-file="$folder/pki/ca.crt" \
  --cluster-signing-key-file="$folder/pki/ca.key" --bind-address=127.0.0.1
part kube-scheduler --kubeconfig="$folder/scheduler.kubeconfig" --leader-elect=false --bind-address=127.0.0.1
part kubelet --config="$folder/kubelet.yaml" --kubeconfig="$folder/kubelet.kubeconfig" --root-dir="$folder/kubelet" \
  --hostname-override="$node_name" --node-ip="$(with_commas "${node_addresses[@]}")"
part kube-proxy --config="$folder/kube-proxy.yaml"
part coredns -conf "$folder/Corefile"

# A first process inherits everybody's children; bash reaps them while it waits.
while :; do
  wait
  sleep 1
done
