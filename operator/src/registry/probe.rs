//! Asks servers that are not ready why: only they know whether the bucket is missing or the credentials are refused.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use berth_operator_core::{
    objects::Owner,
    registry::{PORT, host, status::Unready},
};
use k8s_openapi::api::core::v1::Pod;

use crate::certs::Bundle;

const PATIENCE: Duration = Duration::from_secs(3);

/// What the Pods that run without being ready answer at `/readyz`. Who does not answer is left out.
pub(super) async fn ask(owner: &Owner, pods: &[Pod], bundle: &Bundle) -> Vec<Unready> {
    let addresses = pods.iter().filter_map(unready_address);
    let answers = addresses.map(|address| ask_one(owner, address, bundle));
    futures::future::join_all(answers).await.into_iter().flatten().collect()
}

fn unready_address(pod: &Pod) -> Option<IpAddr> {
    let status = pod.status.as_ref()?;
    let container = status.container_statuses.as_ref()?.first()?;
    let runs = container.state.as_ref()?.running.is_some();
    (runs && !container.ready).then(|| status.pod_ip.as_ref()?.parse().ok()).flatten()
}

async fn ask_one(owner: &Owner, address: IpAddr, bundle: &Bundle) -> Option<Unready> {
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
        let response = client.get(format!("https://{host}:{port}/readyz")).send().await?;
        if response.status().is_success() { Ok(None) } else { response.json::<Unready>().await.map(Some) }
    };
    answer.await.unwrap_or_else(|error: reqwest::Error| {
        tracing::debug!(%error, %address, "a server does not say why it is not ready");
        None
    })
}
