#!/bin/bash
# The node: first process in its own mount, network, process, ipc and host name namespaces. When it ends,
# everything that it started ends with it. Arguments: the image tars to load. The variables come from boot.rs.
set -euo pipefail
log=$STATE/log pki=$STATE/pki

# Fixed paths that daemons write to become private to the node.
mount --make-rshared /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /var/lib/cni /var/lib/kubelet
mount -t tmpfs tmpfs /var/lib/cni
mount --bind "$STATE/kubelet" /var/lib/kubelet
mount --bind "$STATE/varlog" /var/log
mount --bind "$STATE/hosts" /etc/hosts
resolv=$(readlink -f /etc/resolv.conf)
[ -e "$resolv" ] || { mkdir -p "$(dirname "$resolv")"; : > "$resolv"; }
mount --bind "$STATE/resolv.conf" "$resolv"

# No link leads out. The bridge carries the node's address; the route lets the node's own processes address
# Services. What kube-proxy has not yet translated is refused at once instead of hanging.
hostname "$NODE_NAME"
ip link set lo up
ip link add node0 type bridge
ip address add "$NODE_ADDRESS/24" dev node0
ip link set node0 up
ip route add "$SERVICE_RANGE" dev node0
echo 1 > /proc/sys/net/ipv4/ip_forward
iptables -A OUTPUT -d "$SERVICE_RANGE" -j REJECT
iptables -A FORWARD -d "$SERVICE_RANGE" -j REJECT

run() { local name=$1; shift; "$@" > "$log/$name.log" 2>&1 & }
# What ends is started again, as an init system or a kubelet does elsewhere.
keep() { local name=$1; shift; while :; do "$@" || sleep 0.5; done > "$log/$name.log" 2>&1 & }

# etcd writes to memory: nothing here outlives the cluster.
run etcd etcd --name node --data-dir /run/etcd \
  --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
  --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
  --initial-cluster node=http://127.0.0.1:2380
run containerd containerd --config "$STATE/containerd.toml"
keep apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --advertise-address="$NODE_ADDRESS" --secure-port=6443 \
  --service-cluster-ip-range="$SERVICE_RANGE" --client-ca-file="$pki/ca.crt" \
  --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
  --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
  --kubelet-client-certificate="$pki/apiserver-kubelet.crt" --kubelet-client-key="$pki/apiserver-kubelet.key" \
  --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true --profiling=false \
  --service-account-issuer=https://kubernetes.default.svc.cluster.local \
  --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
  --requestheader-client-ca-file="$pki/front.crt" --requestheader-allowed-names=front-proxy-client \
  --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
  --requestheader-extra-headers-prefix=X-Remote-Extra- \
  --proxy-client-cert-file="$pki/front-client.crt" --proxy-client-key-file="$pki/front-client.key" \
  --audit-policy-file="$STATE/audit.json" --audit-log-path="$log/audit.log" --audit-log-mode=blocking

for _ in $(seq 300); do [ -S /run/containerd/containerd.sock ] && break; sleep 0.1; done
for image; do ctr --namespace k8s.io images import --no-unpack "$image" >> "$log/import.log" 2>&1; done
run kubelet kubelet --config "$STATE/kubelet.json" --kubeconfig "$pki/kubelet.kubeconfig" \
  --hostname-override="$NODE_NAME" --node-ip="$NODE_ADDRESS" --root-dir=/var/lib/kubelet

# Started earlier, these would meet missing permissions and back off for seconds; with the usual limit of
# requests, the first ServiceAccounts would take as long.
until kubectl --kubeconfig "$pki/admin.kubeconfig" get --raw /readyz > /dev/null 2>&1; do sleep 0.2; done
run controllers kube-controller-manager --kubeconfig "$pki/controllers.kubeconfig" --root-ca-file "$pki/ca.crt" \
  --service-account-private-key-file "$pki/sa.key" --use-service-account-credentials --leader-elect=false \
  --cluster-signing-cert-file "$pki/ca.crt" --cluster-signing-key-file "$pki/ca.key" \
  --bind-address=127.0.0.1 --flex-volume-plugin-dir="$STATE/plugins" --kube-api-qps=200 --kube-api-burst=400
run scheduler kube-scheduler --kubeconfig "$pki/scheduler.kubeconfig" --leader-elect=false --bind-address=127.0.0.1
run proxy kube-proxy --config "$STATE/proxy.json"

# Bash reaps the orphans of containers while it waits.
while :; do sleep 3600 & wait $! || true; done
