//! The webhook with its policies, a cluster and a registry that misbehave when told to, a certificate and an HTTP client:
//! what each story of this folder begins with, and what it changes as time goes on.

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

use crate::{
    cluster::Cluster,
    registry::{self, Key, Registry},
};

/// The webhook, its world, and a client.
pub(crate) struct World {
    pub(crate) registry: Registry,
    pub(crate) looks: Arc<Looks>,
    pub(crate) kept: Kept,
    pub(crate) cluster: Cluster,
    pub(crate) key: Key,
    pub(crate) policies: Writer<Guarded<ImagePolicy>>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) certificate: Arc<ServingCertificate>,
    /// The one that `http` asks.
    pub(crate) replica: Replica,
    pub(crate) root: String,
    pub(crate) http: reqwest::Client,
}

/// A server of the webhook.
pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    pub(crate) router: axum::Router,
    /// Tells it to end.
    pub(crate) stop: CancellationToken,
    pub(crate) ended: JoinHandle<io::Result<()>>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let cluster = Cluster::default();
        let registry = Registry::start(Outside::new(cluster.client(), Arc::new(Scope::All))).await;
        Self::start(cluster, registry, Key::new()).await
    }

    /// Another process in the same world, with the policy that it began with.
    pub(crate) async fn restarted(self) -> Self {
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
    pub(crate) async fn replica(&self, drain: Duration) -> Replica {
        Replica::start(&self.cluster, &self.admission, &self.certificate, drain).await
    }

    /// Stores the policy `team-a/NAME` for the images of the registry.
    pub(crate) fn policy(&mut self, name: &str, mode: &str, key: &Value) {
        let own = format!("{}/**", registry::HOST);
        self.policy_about(name, mode, key, &[&own, "outside.example.com/**"]);
    }

    pub(crate) fn policy_about(&mut self, name: &str, mode: &str, key: &Value, images: &[&str]) {
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
        self.admission.policies.sort();
    }

    /// Stores a policy with this spec.
    pub(crate) fn store(&mut self, namespace: &str, name: &str, spec: &Value) {
        self.bring(namespace, name, spec);
        self.admission.policies.sort();
    }

    /// The watch brings a policy with this spec.
    pub(crate) fn bring(&mut self, namespace: &str, name: &str, spec: &Value) {
        let policy = serde_json::from_value(json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "ImagePolicy",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        }))
        .unwrap();
        self.policies.apply_watcher_event(&Event::Apply(policy));
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://webhook.test:{}{path}", self.replica.address.port())
    }

    /// Asks a policy about a new Pod with these images, or an update from `old` to them.
    pub(crate) async fn review(&self, policy: &str, images: &[&str], old: Option<&[&str]>) -> Value {
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

pub(crate) fn review_of(images: &[&str], old: Option<&[&str]>) -> Value {
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
pub(crate) fn issue(certificate: &ServingCertificate) -> String {
    let issued = rcgen::generate_simple_self_signed(vec!["webhook.test".to_owned()]).unwrap();
    let data = [("tls.crt", issued.cert.pem()), ("tls.key", issued.signing_key.serialize_pem())];
    let data = data.map(|(key, pem)| (key.to_owned(), ByteString(pem.into_bytes())));
    certificate.set(&Secret { data: Some(data.into()), ..Secret::default() }).unwrap();
    issued.cert.pem()
}

pub(crate) fn client(address: SocketAddr, root: &str) -> reqwest::Client {
    trusting(root).resolve("webhook.test", address).build().unwrap()
}

pub(crate) fn trusting(bundle: &str) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_certs_only(reqwest::Certificate::from_pem_bundle(bundle.as_bytes()).unwrap())
        .no_proxy()
}
