//! Signed images by the thousand, at a Registry that anybody may pull from, and how often it was asked. They are signed
//! by our own code, because a process of cosign for each would take longer than all measurements: in the classic format,
//! under the tag `sha256-….sig`, the one of key signatures that both webhooks read.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use rcgen::{KeyPair, SigningKey as _};
use reqwest::{Certificate, Client, RequestBuilder};
use serde_json::{Value, json};

use crate::bench::clients::{MANIFEST, causes};
use crate::cluster::Network;
use crate::digest::sha256;
use crate::fixtures::{Endpoint, Failure, Outcome, Team, USER};

/// Images under way at once.
const AT_ONCE: usize = 16;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const STATEMENT: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// What is asked of every server by those who run it: no work of a client.
const UPKEEP: &[&str] = &["healthz", "readyz", "metrics", "usage"];

/// A repository, and how to reach it from this process.
pub(super) struct Repository {
    network: Network,
    address: SocketAddr,
    authority: Certificate,
    host: String,
    password: String,
}

impl Repository {
    /// `app` at a Registry.
    pub(super) fn of(team: &Team<'_>, registry: &Endpoint) -> Outcome<Self> {
        let service = team.get(&format!("service/{}", registry.name))?;
        let address: IpAddr = service["spec"]["clusterIP"].as_str().unwrap_or_default().parse()?;
        Ok(Self {
            network: team.cluster().network()?,
            address: (address, 443).into(),
            authority: Certificate::from_pem(authority(team, registry)?.as_bytes())?,
            host: registry.host.clone(),
            password: registry.password.clone(),
        })
    }

    /// Pushes the images of these numbers, each of another digest, and signs them if there is a key. Returns their
    /// references by digest.
    pub(super) fn push(&self, numbers: Range<u32>, key: Option<&KeyPair>) -> Outcome<Vec<String>> {
        self.network.run(async || {
            let push = Push { client: self.client()?, repository: self };
            let config = push.blob(CONFIG, br#"{"architecture":"amd64","os":"linux"}"#.to_vec()).await?;
            let layer = push.blob(LAYER, b"what all of these images hold".to_vec()).await?;
            let parts = Arc::new((config, layer));
            let one = |number| push.image(number, parts.clone(), key);
            stream::iter(numbers).map(one).buffered(AT_ONCE).try_collect().await
        })?
    }

    /// How many requests of clients the Registry has answered.
    pub(super) fn requests(&self) -> Outcome<f64> {
        let metrics = self.network.run(async || {
            let response = self.client()?.get(format!("https://{}/metrics", self.host)).send().await?;
            response.error_for_status()?.text().await
        });
        Ok(requests(&metrics??))
    }

    fn client(&self) -> reqwest::Result<Client> {
        let client = Client::builder().no_proxy().tls_certs_only([self.authority.clone()]);
        client.resolve(&self.host, self.address).build()
    }
}

/// The certificates that clients of a Registry trust it by, PEM.
pub(super) fn authority(team: &Team<'_>, registry: &Endpoint) -> Outcome<String> {
    let published = team.get(&format!("configmap/{}-ca", registry.name))?;
    Ok(published["data"]["ca.crt"].as_str().unwrap_or_default().to_owned())
}

/// Somebody who pushes.
struct Push<'a> {
    client: Client,
    repository: &'a Repository,
}

impl Push<'_> {
    async fn image(&self, number: u32, parts: Arc<(Value, Value)>, key: Option<&KeyPair>) -> Outcome<String> {
        let name = format!("{}/app", self.repository.host);
        let (config, layer) = &*parts;
        let manifest = manifest(config, &[layer], &json!({"number": number.to_string()}));
        let digest = format!("sha256:{}", sha256(&manifest));
        self.manifest(&digest, manifest).await?;
        if let Some(key) = key {
            let statement = statement(&name, &digest);
            let signature = BASE64_STANDARD.encode(key.sign(&statement)?);
            let mut layer = self.blob(STATEMENT, statement).await?;
            layer["annotations"] = json!({"dev.cosignproject.cosign/signature": signature});
            let tag = format!("{}.sig", digest.replace(':', "-"));
            self.manifest(&tag, self::manifest(config, &[&layer], &json!({}))).await?;
        }
        Ok(format!("{name}@{digest}"))
    }

    /// Returns its descriptor.
    async fn blob(&self, media_type: &str, content: Vec<u8>) -> Outcome<Value> {
        let digest = format!("sha256:{}", sha256(&content));
        let size = content.len();
        let request = self.client.post(self.url(&format!("blobs/uploads/?digest={digest}")));
        let request = request.header("Content-Type", "application/octet-stream").body(content);
        self.send(request).await?;
        Ok(json!({"mediaType": media_type, "digest": digest, "size": size}))
    }

    async fn manifest(&self, reference: &str, manifest: String) -> Outcome {
        let request = self.client.put(self.url(&format!("manifests/{reference}")));
        self.send(request.header("Content-Type", MANIFEST).body(manifest)).await
    }

    fn url(&self, rest: &str) -> String {
        format!("https://{}/v2/app/{rest}", self.repository.host)
    }

    async fn send(&self, request: RequestBuilder) -> Outcome {
        let request = request.basic_auth(USER, Some(&self.repository.password));
        let response = request.send().await.map_err(|error| Failure::new(causes(&error)))?;
        let (status, url) = (response.status(), response.url().clone());
        let words = response.text().await?;
        crate::ensure!(status.is_success(), "{url}: {status}: {words}");
        Ok(())
    }
}

fn manifest(config: &Value, layers: &[&Value], annotations: &Value) -> String {
    json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers, "annotations": annotations,
    })
    .to_string()
}

/// What a classic signature signs.
fn statement(name: &str, digest: &str) -> Vec<u8> {
    let statement = json!({
        "critical": {
            "identity": {"docker-reference": name},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    statement.to_string().into_bytes()
}

/// The requests of clients among the metrics of a Registry.
fn requests(metrics: &str) -> f64 {
    let counts = metrics.lines().filter_map(|line| {
        let (labels, count) = line.strip_prefix("berth_http_requests_total{")?.rsplit_once("} ")?;
        let upkeep = UPKEEP.iter().any(|route| labels.contains(&format!("route=\"{route}\"")));
        (!upkeep).then_some(count)?.parse::<f64>().ok()
    });
    counts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_of_clients_count() {
        let metrics = "# TYPE berth_http_requests counter\n\
             berth_http_requests_total{route=\"evidence\",method=\"GET\",status=\"200\"} 3\n\
             berth_http_requests_total{route=\"readyz\",method=\"GET\",status=\"200\"} 50\n\
             berth_http_requests_total{route=\"base\",method=\"GET\",status=\"401\"} 2\n\
             berth_http_received_bytes_total 7\n";
        assert!((requests(metrics) - 5.0).abs() < f64::EPSILON);
    }
}
