//! The configuration files of the node's daemons. Each value that is not a plain choice says why it is there.

use serde_json::json;

use super::cgroup::Cgroup;
use super::{ClusterError, DNS_ADDRESS, NODE_ADDRESS, NODE_NAME, POD_RANGE, State};

/// Writes every file that `node.sh` hands to a daemon or binds over the machine's own.
pub(super) fn write(state: &State, cgroup: &Cgroup) -> Result<(), ClusterError> {
    state.write("hosts", format!("127.0.0.1 localhost\n{NODE_ADDRESS} {NODE_NAME}\n"))?;
    // CoreDNS answers for the node and for clients too, so that a Service's name means the same everywhere.
    state.write("resolv.conf", format!("nameserver {DNS_ADDRESS}\n"))?;
    state.write("cni/10-pods.conflist", network().to_string())?;
    state.write("containerd.toml", containerd(state))?;
    state.write("kubelet.json", kubelet(state, cgroup).to_string())?;
    state.write("proxy.json", proxy(state).to_string())?;
    state.write("audit.json", audit().to_string())?;
    Ok(())
}

/// Point-to-point links: every packet is routed through the node's own rules, so that Services work from
/// a Pod to itself without the bridge's kernel settings.
fn network() -> serde_json::Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {"type": "ptp", "ipMasq": false, "mtu": 1500, "ipam": {
                "type": "host-local",
                "dataDir": "/var/lib/cni/networks",
                "ranges": [[{"subnet": POD_RANGE}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            }},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

fn containerd(state: &State) -> String {
    let folder = state.folder().display();
    // restrict_oom_score_adj: a container of the tests may lack the capability to lower its score.
    format!(
        r#"version = 2
root = "{folder}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  cni = {{bin_dir = "/usr/lib/cni", conf_dir = "{folder}/cni"}}
  registry = {{config_path = "{folder}/certs.d"}}
"#
    )
}

fn kubelet(state: &State, cgroup: &Cgroup) -> serde_json::Value {
    let pki = |file: &str| state.path("pki").join(file);
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki("kubelet-server.crt"),
        "tlsPrivateKeyFile": pki("kubelet-server.key"),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        // The machine decides which version of control groups there is, and whether there is swap.
        "failCgroupV1": false,
        "failSwapOn": false,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup.path(),
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,
        "localStorageCapacityIsolation": true,
        // The disk and memory are the machine's, and others fill them too.
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": state.path("resolv.conf"),
        // The default place is on the machine's own disk.
        "volumePluginDir": state.path("plugins"),
        "serializeImagePulls": false,
        "maxPods": 60,
        "nodeStatusUpdateFrequency": "2s",
    })
}

/// What `ServiceAccounts` asked and were answered, but for those of Kubernetes itself: tests read in it that
/// Berth needs no right that it does not have, and writes nothing twice.
fn audit() -> serde_json::Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted", "Panic"],
        "rules": [
            {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
            {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
            {"level": "None"},
        ],
    })
}

fn proxy(state: &State) -> serde_json::Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": NODE_NAME,
        "clientConnection": {"kubeconfig": state.path("pki/proxy.kubeconfig")},
        "bindAddress": "0.0.0.0",
        "clusterCIDR": POD_RANGE,
        "detectLocalMode": "ClusterCIDR",
        "oomScoreAdj": 0,
        "iptables": {"minSyncPeriod": "0s"},
        // Connection tracking limits belong to the machine and cannot be set from a network namespace.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    })
}
