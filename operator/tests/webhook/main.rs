//! The webhook as the API server and registries meet it: over TLS, in this process, with a registry that can misbehave; and
//! the controller that judges with the same knowledge what runs. Needs neither root nor network beyond loopback (R-OPR-6,
//! R-OPR-7, R-SIG-1, R-OPS-3).

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of this crate is test code")]

mod cluster;
mod decisions;
mod events;
mod foreign;
mod kept;
mod load;
mod memory;
mod registry;
mod reviews;
mod running;
mod serving;
mod warm;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use berth_crds::ImagePolicy;
use berth_operator::{
    Scope,
    certs::serving::ServingCertificate,
    image_policy::Keys,
    kept::{Kept, KeptMetrics},
    stores::Guarded,
    webhook::{
        Admission,
        decisions::{Decisions, Noted},
        directory::Directory,
        looks::Looks,
        metrics::{Looked, Reviews},
        outside::Outside,
        policies::Policies,
        router, server,
    },
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::runtime::{
    reflector::{self, store::Writer},
    watcher::Event,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use cluster::Cluster;
use registry::{Key, Registry};

/// The webhook, its world, and a client.
struct World {
    registry: Registry,
    looks: Arc<Looks>,
    kept: Kept,
    cluster: Cluster,
    key: Key,
    policies: Writer<Guarded<ImagePolicy>>,
    admission: Arc<Admission>,
    certificate: Arc<ServingCertificate>,
    /// The one that `http` asks.
    replica: Replica,
    root: String,
    http: reqwest::Client,
}

/// A server of the webhook.
struct Replica {
    address: SocketAddr,
    router: axum::Router,
    /// Tells it to end.
    stop: CancellationToken,
    ended: JoinHandle<io::Result<()>>,
}

impl World {
    async fn new() -> Self {
        let cluster = Cluster::default();
        let registry = Registry::start(Outside::new(cluster.client(), Arc::new(Scope::All))).await;
        Self::start(cluster, registry, Key::new()).await
    }

    /// Another process in the same world, with the policy that it began with.
    async fn restarted(self) -> Self {
        Self::start(self.cluster.clone(), self.registry.clone(), self.key).await
    }

    async fn start(cluster: Cluster, registry: Registry, key: Key) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (policies, writer) = reflector::store();
        let keys = Keys::new(cluster.client(), Arc::new(Scope::All));
        let patience = Duration::from_secs(1);
        let directory: Arc<dyn Directory> = Arc::new(registry.clone());
        let looks = Arc::new(Looks::new(directory.clone(), patience, 1 << 20, Looked::default()));
        let kept = Kept::new(cluster.client(), "berth-system", looks.clone(), KeptMetrics::default());
        kept.restore().await;
        let (decisions, decided) = Decisions::new(cluster.client(), "test", Noted::default());
        tokio::spawn(decided.run());
        let admission = Arc::new(Admission {
            policies: Arc::new(Policies::new(policies, Arc::new(keys))),
            directory,
            looks: looks.clone(),
            deadline: patience,
            metrics: Reviews::default(),
            decisions,
        });
        let certificate = Arc::new(ServingCertificate::default());
        let root = issue(&certificate);
        let replica = Replica::start(&cluster, &admission, &certificate, Duration::ZERO).await;
        let http = client(replica.address, &root);
        let mut world = Self {
            registry,
            looks,
            kept,
            cluster,
            key,
            policies: writer,
            admission,
            certificate,
            replica,
            root,
            http,
        };
        world.policy("signed", "Enforce", &json!({"pem": world.key.pem()}));
        world
    }

    /// One more server of this world, which drains for so long when it is told to end.
    async fn replica(&self, drain: Duration) -> Replica {
        Replica::start(&self.cluster, &self.admission, &self.certificate, drain).await
    }

    /// Stores the policy `team-a/NAME` for the images of the registry.
    fn policy(&mut self, name: &str, mode: &str, key: &Value) {
        let own = format!("{}/**", registry::HOST);
        self.policy_about(name, mode, key, &[&own, "outside.example.com/**"]);
    }

    fn policy_about(&mut self, name: &str, mode: &str, key: &Value, images: &[&str]) {
        let policy = serde_json::from_value(json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "ImagePolicy",
            "metadata": {"name": name, "namespace": "team-a"},
            "spec": {
                "mode": mode, "images": images,
                "require": [{"signature": {"authorities": [{"name": "release", "key": key}]}}],
            },
        }))
        .unwrap();
        self.policies.apply_watcher_event(&Event::Apply(policy));
    }

    /// Stores a policy with this spec.
    fn store(&mut self, namespace: &str, name: &str, spec: &Value) {
        let policy = serde_json::from_value(json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "ImagePolicy",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        }))
        .unwrap();
        self.policies.apply_watcher_event(&Event::Apply(policy));
    }

    fn url(&self, path: &str) -> String {
        format!("https://webhook.test:{}{path}", self.replica.address.port())
    }

    /// Asks a policy about a new Pod with these images, or an update from `old` to them.
    async fn review(&self, policy: &str, images: &[&str], old: Option<&[&str]>) -> Value {
        let body = review_of(images, old).to_string();
        let answer =
            self.http.post(self.url(&format!("/admit/team-a/{policy}"))).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let review: Value = answer.json().await.unwrap();
        assert_eq!((&review["kind"], &review["response"]["uid"]), (&"AdmissionReview".into(), &"u1".into()));
        review["response"].clone()
    }
}

impl Replica {
    async fn start(
        cluster: &Cluster,
        admission: &Arc<Admission>,
        certificate: &Arc<ServingCertificate>,
        drain: Duration,
    ) -> Self {
        let stop = CancellationToken::new();
        let ready = {
            let stop = stop.clone();
            Arc::new(move || if stop.is_cancelled() { Err("ending") } else { Ok(()) })
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = router(admission.clone(), cluster.client(), ready);
        let serve = server::serve(listener, certificate.clone(), router.clone(), stop.clone(), drain);
        Self { address, router, stop, ended: tokio::spawn(serve) }
    }
}

fn review_of(images: &[&str], old: Option<&[&str]>) -> Value {
    let pod = |images: &[&str]| {
        let containers: Vec<_> = images
            .iter()
            .enumerate()
            .map(|(index, image)| json!({"name": format!("c{index}"), "image": image}))
            .collect();
        json!({"spec": {"containers": containers}})
    };
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u1", "operation": if old.is_some() { "UPDATE" } else { "CREATE" }, "namespace": "team-a",
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "object": pod(images), "oldObject": old.map(pod),
        },
    })
}

/// Gives the webhook a new certificate; returns it for clients to trust.
fn issue(certificate: &ServingCertificate) -> String {
    let issued = rcgen::generate_simple_self_signed(vec!["webhook.test".to_owned()]).unwrap();
    let data = [("tls.crt", issued.cert.pem()), ("tls.key", issued.signing_key.serialize_pem())];
    let data = data.map(|(key, pem)| (key.to_owned(), ByteString(pem.into_bytes())));
    certificate.set(&Secret { data: Some(data.into()), ..Secret::default() }).unwrap();
    issued.cert.pem()
}

fn client(address: SocketAddr, root: &str) -> reqwest::Client {
    trusting(root).resolve("webhook.test", address).build().unwrap()
}

fn trusting(bundle: &str) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_certs_only(reqwest::Certificate::from_pem_bundle(bundle.as_bytes()).unwrap())
        .no_proxy()
}
