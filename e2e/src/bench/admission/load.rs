//! The load: so many connections to the API server, kept open, each with one Pod under way. The client is the cluster's
//! administrator (`system:masters`), whom the API server's priority and fairness exempts, so no limit of requests is
//! measured.

use std::cell::Cell;
use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use reqwest::{Certificate, Client, Identity, Response, StatusCode};
use serde_json::{Value, json};

use crate::bench::clients::causes;
use crate::cluster::{Cluster, Network};
use crate::fixtures::{Failure, Outcome};

/// The API server, as its administrator meets it.
pub(super) struct Api {
    network: Network,
    url: String,
    authority: Certificate,
    identity: Identity,
}

/// Pods to ask about.
pub(super) enum Pods<'a> {
    /// In turn, over and over.
    Again(&'a [Bytes]),
    /// Each once; the load ends with them.
    Once(&'a [Bytes]),
}

/// What a load came to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Load {
    /// All were let in.
    pub(super) pods: u32,
    /// Seconds.
    pub(super) wall: f64,
    /// Each Pod's, sorted.
    took: Vec<Duration>,
}

impl Api {
    /// That of a cluster.
    pub(super) fn of(cluster: &Cluster) -> Outcome<Self> {
        let pki = |file: &str| fs::read(cluster.state().path("pki").join(file));
        let kubeconfig: Value = serde_json::from_slice(&pki("admin.kubeconfig")?)?;
        let url = kubeconfig["clusters"][0]["cluster"]["server"].as_str().unwrap_or_default();
        Ok(Self {
            network: cluster.network()?,
            url: url.to_owned(),
            authority: Certificate::from_pem(&pki("ca.crt")?)?,
            identity: Identity::from_pem(&[pki("admin.crt")?, pki("admin.key")?].concat())?,
        })
    }

    /// Asks about one Pod; the error is why it is not let in.
    pub(super) fn admits(&self, namespace: &str, pod: &Bytes) -> Outcome<Result<(), String>> {
        self.network.run(async || {
            let response = self.ask(&self.connect().await?, namespace, pod.clone()).await?;
            let (status, words) = (response.status(), response.text().await?);
            Ok(if status == StatusCode::CREATED { Ok(()) } else { Err(words) })
        })?
    }

    /// Asks about Pods for some time, on so many connections at once. All of them must be let in.
    pub(super) fn load(
        &self,
        namespace: &str,
        pods: &Pods<'_>,
        connections: u32,
        time: Duration,
    ) -> Outcome<Load> {
        self.network.run(async || {
            let clients = try_join_all((0..connections).map(|_| self.connect())).await?;
            let (next, start) = (Cell::new(0), Instant::now());
            let one = async |client: &Client| {
                let mut took = Vec::new();
                while start.elapsed() < time {
                    let Some(pod) = pods.get(next.replace(next.get() + 1)) else { break };
                    let sent = Instant::now();
                    let response = self.ask(client, namespace, pod).await?;
                    let (status, words) = (response.status(), response.bytes().await?);
                    took.push(sent.elapsed());
                    if status != StatusCode::CREATED {
                        let words = String::from_utf8_lossy(&words);
                        return Err(Failure::new(format!("a Pod was not let in: {status}: {words}")));
                    }
                }
                Ok(took)
            };
            let took = try_join_all(clients.iter().map(one)).await?;
            Load::new(took.concat(), start.elapsed())
        })?
    }

    /// A client with one connection, which is open already.
    async fn connect(&self) -> Outcome<Client> {
        let client = Client::builder()
            .no_proxy()
            .http1_only()
            .tls_certs_only([self.authority.clone()])
            .identity(self.identity.clone())
            .pool_max_idle_per_host(1)
            .timeout(Duration::from_mins(1))
            .build()?;
        let ready = client.get(format!("{}/readyz", self.url)).send().await;
        ready.map_err(|error| Failure::new(causes(&error)))?.error_for_status()?.bytes().await?;
        Ok(client)
    }

    async fn ask(&self, client: &Client, namespace: &str, pod: Bytes) -> Outcome<Response> {
        let url = format!("{}/api/v1/namespaces/{namespace}/pods?dryRun=All", self.url);
        let request = client.post(url).header("Content-Type", "application/json").body(pod);
        request.send().await.map_err(|error| Failure::new(causes(&error)))
    }
}

impl Pods<'_> {
    fn get(&self, number: usize) -> Option<Bytes> {
        match self {
            Self::Again(pods) => pods.get(number.checked_rem(pods.len())?).cloned(),
            Self::Once(pods) => pods.get(number).cloned(),
        }
    }
}

impl Load {
    fn new(mut took: Vec<Duration>, wall: Duration) -> Outcome<Self> {
        crate::ensure!(!took.is_empty(), "no Pod was asked about");
        took.sort_unstable();
        Ok(Self { pods: u32::try_from(took.len())?, wall: wall.as_secs_f64(), took })
    }

    /// What so many of a hundred Pods took at most, milliseconds.
    pub(super) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.took.len() * percent).div_ceil(100).max(1);
        self.took.get(rank - 1).map_or(0.0, |took| 1000.0 * took.as_secs_f64())
    }
}

/// A Pod of two containers, with what a deployed one has: settings, resources, a probe, the `restricted` profile.
pub(super) fn pod(images: [&str; 2]) -> Bytes {
    let container = |name: &str, image: &str| {
        let settings = (0..8).map(|number| {
            json!({"name": format!("SETTING_{number}"), "value": format!("what {name} needs to know, {number}")})
        });
        json!({
            "name": name,
            "image": image,
            "env": settings.collect::<Vec<_>>(),
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}},
            "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        })
    };
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "web-", "labels": {"app.kubernetes.io/name": "web"}},
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container("web", images[0]), container("proxy", images[1])],
        },
    });
    Bytes::from(pod.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_durations() {
        let took = (1..=200).rev().map(Duration::from_millis).collect();
        let load = Load::new(took, Duration::from_secs(1)).unwrap();
        let percentiles = [50, 99, 100].map(|percent| load.percentile(percent).round().to_string());
        assert_eq!(percentiles, ["100", "198", "200"]);
        assert!(Load::new(Vec::new(), Duration::ZERO).is_err());
    }

    #[test]
    fn pods_come_again_or_once() {
        let pods = [Bytes::from_static(b"a"), Bytes::from_static(b"b")];
        assert_eq!(Pods::Again(&pods).get(3).as_deref(), Some(b"b".as_slice()));
        assert_eq!(Pods::Once(&pods).get(1).as_deref(), Some(b"b".as_slice()));
        assert_eq!((Pods::Once(&pods).get(2), Pods::Again(&[]).get(0)), (None, None));
    }
}
