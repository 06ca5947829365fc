//! Asks servers what only they know: why they are not ready, which configuration they run, whether their store takes
//! writes.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use berth_operator_core::{
    objects::Owner,
    registry::{PORT, host, status::Unready},
};
use futures::future;
use k8s_openapi::api::core::v1::Pod;

use crate::certs::Bundle;

const PATIENCE: Duration = Duration::from_secs(3);

/// Names the configuration that a server runs.
const CONFIGURATION: &str = "berth-config-sha256";

/// What the Pods that run without being ready answer at `/readyz`. Who does not answer is left out.
pub(super) async fn unready(owner: &Owner, pods: &[Pod], bundle: &Bundle) -> Vec<Unready> {
    let addresses = pods.iter().filter(|pod| !is_ready(pod)).filter_map(running_address);
    let answers = addresses.map(async |address| {
        let response = ask(owner, address, bundle).await?;
        if response.status().is_success() { None } else { response.json().await.ok() }
    });
    future::join_all(answers).await.into_iter().flatten().collect()
}

/// Why the store refuses writes, by each server that answers as one that is ready.
pub(super) async fn refusals(owner: &Owner, pods: &[Pod], bundle: &Bundle) -> Vec<Option<Unready>> {
    let answers = pods.iter().filter_map(running_address).map(async |address| {
        let response = ask(owner, address, bundle).await?.error_for_status().ok()?;
        // A server whose store takes writes has nothing to explain.
        Some(response.json().await.ok())
    });
    future::join_all(answers).await.into_iter().flatten().collect()
}

/// Names of the Pods that do not say that they run this configuration.
pub(super) async fn outdated(owner: &Owner, pods: &[Pod], bundle: &Bundle, wanted: &str) -> Vec<String> {
    let pods = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let answers = pods.map(async |pod| {
        let response = ask(owner, running_address(pod)?, bundle).await;
        let runs = response.as_ref().and_then(|response| response.headers().get(CONFIGURATION));
        if runs.is_some_and(|runs| runs == wanted) { None } else { pod.metadata.name.clone() }
    });
    future::join_all(answers).await.into_iter().flatten().collect()
}

fn is_ready(pod: &Pod) -> bool {
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    containers.and_then(|containers| containers.first()).is_some_and(|container| container.ready)
}

fn running_address(pod: &Pod) -> Option<IpAddr> {
    let status = pod.status.as_ref()?;
    status.container_statuses.as_ref()?.first()?.state.as_ref()?.running.as_ref()?;
    status.pod_ip.as_ref()?.parse().ok()
}

async fn ask(owner: &Owner, address: IpAddr, bundle: &Bundle) -> Option<reqwest::Response> {
    let host = host(&owner.namespace, &owner.name);
    let port = u16::try_from(PORT).ok()?;
    let answer = async {
        let certificates = reqwest::Certificate::from_pem_bundle(bundle.as_pem().as_bytes())?;
        let client = reqwest::Client::builder()
            .tls_certs_only(certificates)
            // The certificate is for the Service's name; the question goes to one Pod.
            .resolve(&host, SocketAddr::new(address, port))
            .no_proxy()
            .timeout(PATIENCE)
            .build()?;
        client.get(format!("https://{host}:{port}/readyz")).send().await
    };
    answer
        .await
        .inspect_err(|error: &reqwest::Error| tracing::debug!(%error, %address, "a server does not answer"))
        .ok()
}
