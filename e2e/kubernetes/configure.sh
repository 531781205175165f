# Writes the keys and configuration of a cluster into its folder. Sourced by lifecycle.sh.
# shellcheck shell=bash

write_configuration() {
  local program=$1 part
  mkdir -p "$folder"/{bin,pki,log,etcd,containerd,kubelet,cni,cni-state,pod-logs,container-logs} && chmod 700 "$folder/pki" || return 1
  for part in coredns etcd kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubectl kubelet; do
    ln -sf "$program" "$folder/bin/$part"
  done
  ln -sf "$(command -v containerd)" "$folder/bin/containerd"
  write_keys && write_kubeconfigs && write_container_runtime && write_kubelet && write_network && write_pause_image
}

write_keys() {
  local pki=$folder/pki
  new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$pki/$1.key"; }
  # certificate NAME SUBJECT USAGE [NAMES]
  certificate() {
    new_key "$1" &&
      openssl req -new -key "$pki/$1.key" -subj "$2" -out "$pki/$1.csr" &&
      printf 'keyUsage=digitalSignature\nextendedKeyUsage=%s\n%s\n' "$3" "${4:+subjectAltName=$4}" >"$pki/$1.ext" &&
      openssl x509 -req -in "$pki/$1.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -CAcreateserial -days 30 \
        -extfile "$pki/$1.ext" -out "$pki/$1.crt"
  }
  local api=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc
  api+=,DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:$api_service_address,IP:$node_address
  new_key ca && openssl req -x509 -new -key "$pki/ca.key" -days 30 -subj /CN=osm-test-cluster -out "$pki/ca.crt" &&
    certificate api-server /CN=kube-apiserver serverAuth "$api" &&
    certificate kubelet-server "/CN=$node_name" serverAuth "DNS:$node_name,IP:$node_address,IP:127.0.0.1" &&
    certificate api-server-to-kubelet /O=system:masters/CN=api-server-to-kubelet clientAuth &&
    certificate admin /O=system:masters/CN=admin clientAuth &&
    certificate controller-manager /CN=system:kube-controller-manager clientAuth &&
    certificate scheduler /CN=system:kube-scheduler clientAuth &&
    certificate kubelet "/O=system:nodes/CN=system:node:$node_name" clientAuth &&
    certificate kube-proxy /CN=system:kube-proxy clientAuth &&
    openssl genrsa -out "$pki/accounts.key" 2048 &&
    openssl rsa -in "$pki/accounts.key" -pubout -out "$pki/accounts.pub"
}

write_kubeconfigs() {
  local who
  as_data() { base64 -w0 "$folder/pki/$1"; }
  for who in admin controller-manager scheduler kubelet kube-proxy; do
    (umask 077 && cat >"$folder/$who.kubeconfig") <<YAML || return 1
apiVersion: v1
kind: Config
current-context: osm-test
contexts: [{name: osm-test, context: {cluster: osm-test, user: $who}}]
clusters: [{name: osm-test, cluster: {server: "https://127.0.0.1:6443", certificate-authority-data: $(as_data ca.crt)}}]
users: [{name: $who, user: {client-certificate-data: $(as_data "$who.crt"), client-key-data: $(as_data "$who.key")}}]
YAML
  done
}

write_container_runtime() {
  cat >"$folder/containerd.toml" <<TOML
version = 2
root = "$folder/containerd"
state = "/run/containerd-osm"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "$containerd_socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  disable_apparmor = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  # Root of a container or of a small virtual machine may not lower oom_score_adj, and sandboxes would fail over it.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$folder/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
TOML
}

write_kubelet() {
  # What pods with dnsPolicy Default are told: there is no resolver outside the cluster.
  echo "nameserver 127.0.0.1" >"$folder/resolv.conf"
  cat >"$folder/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupRoot: $cgroup_root
enforceNodeAllocatable: [pods]
containerRuntimeEndpoint: unix://$containerd_socket
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $folder/pki/ca.crt}}
authorization: {mode: AlwaysAllow}
tlsCertFile: $folder/pki/kubelet-server.crt
tlsPrivateKeyFile: $folder/pki/kubelet-server.key
clusterDNS: [$dns_address]
clusterDomain: cluster.local
resolvConf: $folder/resolv.conf
# Images cannot be fetched again, so none may be collected.
imageMinimumGCAge: 87600h
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
serializeImagePulls: false
maxPods: 200
YAML
}

write_network() {
  local ranges='' routes='' range
  for range in "${pod_ranges[@]}"; do
    ranges+=${ranges:+, }"[{\"subnet\": \"$range\"}]"
    case $range in
      *:*) routes+=', {"dst": "::/0"}' ;;
      *) routes+='{"dst": "0.0.0.0/0"}' ;;
    esac
  done
  cat >"$folder/cni/10-pods.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [$ranges], "routes": [$routes]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
  cat >"$folder/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $folder/kube-proxy.kubeconfig}
hostnameOverride: $node_name
mode: iptables
clusterCIDR: "$(with_commas "${pod_ranges[@]}")"
# The machine's own limits stay as they are.
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
iptables: {minSyncPeriod: 0s}
YAML
  cat >"$folder/Corefile" <<COREFILE
.:53 {
    errors
    health 127.0.0.1:8081
    ready 127.0.0.1:8181
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig $folder/admin.kubeconfig
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }
    hosts {
        fallthrough
    }
    cache 5
}
COREFILE
  # The DNS server is a process of the node, behind a service without a selector.
  cat >"$folder/dns.yaml" <<YAML
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  clusterIP: $dns_address
  ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-node, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
endpoints: [{addresses: ["$node_address"], conditions: {ready: true}}]
YAML
}

# Every pod's first container: holds its namespaces, does nothing.
write_pause_image() {
  local image
  image=$(mktemp -d) || return 1
  printf '#include <unistd.h>\nint main(void) { for (;;) pause(); }\n' | cc -static -O1 -x c -o "$image/pause" - &&
    python3 "$root/images/oci.py" --name localhost/pause:1 --root "$image" --entrypoint /pause --user 65534 "$folder/pause.oci.tar"
  local status=$?
  rm -rf "$image"
  return $status
}
