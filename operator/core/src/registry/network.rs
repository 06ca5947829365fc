//! How a Registry is reached: its Service, what may come in, and how many servers may leave at once.

use k8s_openapi::{
    api::{
        core::v1::{Service, ServicePort, ServiceSpec},
        networking::v1::{NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPort, NetworkPolicySpec},
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{PORT, PORT_NAME, validate::ValidRegistry, workload::server_selector};

fn selector(registry: &ValidRegistry) -> LabelSelector {
    LabelSelector { match_labels: Some(server_selector(&registry.owner)), match_expressions: None }
}

/// Port 443 of the Registry's name.
pub fn service(registry: &ValidRegistry) -> Service {
    Service {
        metadata: registry.owner.child(registry.owner.name.clone()),
        spec: Some(ServiceSpec {
            selector: Some(server_selector(&registry.owner)),
            ports: Some(vec![ServicePort {
                name: Some("https".to_owned()),
                port: 443,
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::String(PORT_NAME.to_owned())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// Anybody may call the one port; nodes, too, pull from it. Who may do what is the server's business.
pub fn network_policy(registry: &ValidRegistry) -> NetworkPolicy {
    NetworkPolicy {
        metadata: registry.owner.child(registry.owner.name.clone()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(registry)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![NetworkPolicyIngressRule {
                ports: Some(vec![NetworkPolicyPort {
                    port: Some(IntOrString::Int(PORT)),
                    protocol: Some("TCP".to_owned()),
                    end_port: None,
                }]),
                from: None,
            }]),
            egress: None,
        }),
    }
}

/// One server at a time may be evicted. Without a second server there is nothing to protect: a budget would only block
/// the drain of the node.
pub fn disruption_budget(registry: &ValidRegistry) -> Option<PodDisruptionBudget> {
    (registry.replicas > 1).then(|| PodDisruptionBudget {
        metadata: registry.owner.child(registry.owner.name.clone()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(selector(registry)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    })
}
