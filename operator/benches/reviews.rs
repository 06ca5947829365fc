//! `cargo bench -p berth-operator --bench reviews`: warm reviews over TLS, answered on one thread, with a hundred thousand
//! signed digests in memory. Prints how many a second, how long one takes at ten thousand a second (a million reviews),
//! what memory holds, and how often a registry was asked, which must be never: it runs as well in a network namespace
//! without routes (`unshare --net`, loopback up). A measurement, not a test.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    reason = "a measurement that is read by people"
)]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use berth_client::{Client, ClientError};
use berth_crds::ImagePolicy;
use berth_operator::{
    Scope,
    certs::serving::ServingCertificate,
    image_policy::Keys,
    stores::Guarded,
    webhook::{
        Admission,
        decisions::{Decisions, Noted},
        directory::{Directory, NoRegistry},
        looks::Looks,
        metrics::{Looked, Reviews},
        policies::Policies,
        router, server,
    },
};
use berth_operator_core::{memory::Place, pulling::Pulling};
use berth_registry_core::{Digest, ImageReference};
use berth_trust::{Anchor, Anchors, Artifact, Bounds, Evidence, Facts, PublicKey};
use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::runtime::{reflector, watcher::Event};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::json;
use tokio_util::sync::CancellationToken;

const HOST: &str = "registry.team-a.svc.cluster.local";
const DIGESTS: usize = 100_000;
const CONNECTIONS: usize = 16;
const RATE: usize = 10_000;
/// As many as possible for so long.
const BURST: u64 = 10;
/// At the rate for so long.
const PACED: u64 = 100;

/// Every question to a registry is one too many.
#[derive(Default)]
struct Nobody(AtomicUsize);

impl Directory for Nobody {
    fn permits(&self, _: &str, _: &str) -> Result<(), NoRegistry> {
        Ok(())
    }

    fn client(&self, host: &str) -> Result<Client, NoRegistry> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err(ClientError::Unreachable { host: host.to_owned(), cause: "there is none".to_owned() }.into())
    }

    fn outside<'a>(
        &'a self,
        _: &'a Pulling,
        image: &'a ImageReference,
    ) -> BoxFuture<'a, Result<Client, NoRegistry>> {
        std::future::ready(self.client(&image.host)).boxed()
    }
}

fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let directory = Arc::new(Nobody::default());
    let looks = Arc::new(Looks::new(directory.clone(), Duration::from_secs(8), 64 << 20, Looked::default()));
    let before = resident();
    let images = fill(&looks, &key);
    let (digests, bytes) = looks.memory.size();
    println!("{digests} digests remembered in {} MiB by count", bytes >> 20);
    println!("{} MiB more resident", (resident() - before) >> 10);

    let (address, root, stop) = serve(looks, directory.clone(), &key);
    let bodies: Arc<Vec<Vec<u8>>> = Arc::new(images.iter().step_by(50).map(|image| request(image)).collect());
    println!("{} bytes a review", bodies[0].len());
    load(address, &root, &bodies, None, 2);
    report("as many as possible", BURST, &load(address, &root, &bodies, None, BURST));
    report("10,000 a second", PACED, &load(address, &root, &bodies, Some(RATE), PACED));
    println!("{} questions to registries", directory.0.load(Ordering::SeqCst));
    stop.cancel();
}

/// Facts as signed images give them.
fn fill(looks: &Looks, key: &EcdsaKeyPair) -> Vec<String> {
    let anchors = Anchors::from_iter([Anchor::Key(PublicKey::from_pem(&pem(key)).unwrap())]);
    let (random, now) = (SystemRandom::new(), Timestamp::now());
    (0..DIGESTS)
        .map(|number| {
            let digest = Digest::sha256(&number.to_be_bytes());
            let image: ImageReference =
                format!("{HOST}/team/app-{}:v{}", number % 1000, number / 1000).parse().unwrap();
            let payload = json!({
                "critical": {
                    "identity": {"docker-reference": image.name()},
                    "image": {"docker-manifest-digest": digest},
                    "type": "cosign container image signature",
                },
                "optional": null,
            });
            let payload = payload.to_string().into_bytes();
            let signature = BASE64_STANDARD.encode(key.sign(&random, &payload).unwrap());
            let layer = Digest::sha256(&payload);
            let manifest = json!({
                "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": Digest::sha256(b"{}")},
                "layers": [{
                    "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "size": payload.len(),
                    "digest": layer, "annotations": {"dev.cosignproject.cosign/signature": signature},
                }],
            });
            let artifact = Artifact { manifest: manifest.to_string().into_bytes(), layers: [(layer, payload)].into() };
            let evidence = Evidence {
                subject: digest.clone(),
                described: None,
                artifacts: vec![artifact],
                indexes: Vec::new(),
            };
            let facts = Facts::establish(&evidence, &anchors, &Bounds::default()).unwrap();
            let (place, asked) = (Place::of("", &image), looks.memory.moment());
            if let Some(tag) = &image.tag {
                looks.memory.learn_tag(&place, tag, &digest, asked, now);
            }
            looks.memory.learn(&place, &facts, asked, now);
            image.to_string()
        })
        .collect()
}

fn pem(key: &EcdsaKeyPair) -> String {
    let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        BASE64_STANDARD.encode(der.as_ref())
    )
}

/// The webhook on one thread.
fn serve(
    looks: Arc<Looks>,
    directory: Arc<Nobody>,
    key: &EcdsaKeyPair,
) -> (SocketAddr, String, CancellationToken) {
    let policy: Guarded<ImagePolicy> = serde_json::from_value(json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "ImagePolicy",
        "metadata": {"name": "signed", "namespace": "team-a"},
        "spec": {
            "mode": "Enforce", "images": [format!("{HOST}/**")],
            "require": [{"signature": {"authorities": [{"name": "release", "key": {"pem": pem(key)}}]}}],
        },
    }))
    .unwrap();
    let issued = rcgen::generate_simple_self_signed(vec!["webhook.test".to_owned()]).unwrap();
    let (root, private) = (issued.cert.pem(), issued.signing_key.serialize_pem());
    let stop = CancellationToken::new();
    let (sender, receiver) = std::sync::mpsc::channel();
    let stopped = stop.clone();
    let certificate = root.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let nowhere = tower::service_fn(|_: http::Request<kube::client::Body>| async {
                Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::empty()))
            });
            let cluster = kube::Client::new(nowhere, "default");
            let (store, mut writer) = reflector::store();
            writer.apply_watcher_event(&Event::Apply(policy));
            let keys = Arc::new(Keys::new(cluster.clone(), Arc::new(Scope::All)));
            let (decisions, _) = Decisions::new(cluster.clone(), "bench", Noted::default());
            let admission = Arc::new(Admission {
                policies: Arc::new(Policies::new(store, keys)),
                directory,
                looks,
                deadline: Duration::from_secs(8),
                metrics: Reviews::default(),
                decisions,
            });
            let serving = Arc::new(ServingCertificate::default());
            let data = [("tls.crt", certificate), ("tls.key", private)];
            let data = data.map(|(key, pem)| (key.to_owned(), ByteString(pem.into_bytes())));
            serving.set(&Secret { data: Some(data.into()), ..Secret::default() }).unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            let router = router(admission, cluster, Arc::new(|| Ok(())));
            server::serve(listener, serving, router, stopped, Duration::ZERO).await.unwrap();
        });
    });
    (receiver.recv().unwrap(), root, stop)
}

/// A review of a Pod of about five thousand bytes.
fn request(image: &str) -> Vec<u8> {
    let environment: Vec<_> =
        (0..40).map(|i| json!({"name": format!("SETTING_{i}"), "value": format!("a value of some length, number {i}")})).collect();
    let fields: serde_json::Map<_, _> =
        (0..10).map(|i| (format!("f:field{i}"), json!({".": {}, "f:name": {}, "f:value": {}}))).collect();
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE",
            "namespace": "team-a", "name": "web-5d8f8b6c9-",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller", "groups": ["system:authenticated"]},
            "object": {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"generateName": "web-5d8f8b6c9-", "labels": {"app": "web"}, "managedFields": [{"fieldsV1": fields}]},
                "spec": {"containers": [{
                    "name": "web", "image": image, "env": environment,
                    "resources": {"limits": {"memory": "128Mi"}, "requests": {"cpu": "100m"}},
                }]},
            },
            "oldObject": null,
        },
    });
    let body = review.to_string();
    format!(
        "POST /admit/team-a/signed?timeout=10s HTTP/1.1\r\nhost: webhook.test\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Durations of all reviews, sorted.
fn load(
    address: SocketAddr,
    root: &str,
    bodies: &Arc<Vec<Vec<u8>>>,
    rate: Option<usize>,
    seconds: u64,
) -> Vec<Duration> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let begin = Instant::now() + Duration::from_millis(100);
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let (config, bodies) = (config.clone(), bodies.clone());
            std::thread::spawn(move || connection(address, config, &bodies, number, rate, begin, seconds))
        })
        .collect();
    let mut all: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    all.sort_unstable();
    all
}

fn connection(
    address: SocketAddr,
    config: Arc<rustls::ClientConfig>,
    bodies: &[Vec<u8>],
    number: usize,
    rate: Option<usize>,
    begin: Instant,
    seconds: u64,
) -> Vec<Duration> {
    let name = ServerName::try_from("webhook.test").unwrap();
    let mut tls = rustls::ClientConnection::new(config, name).unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut stream = rustls::Stream::new(&mut tls, &mut socket);
    let mut durations = Vec::new();
    let mut answer = vec![0; 16 * 1024];
    for turn in 0.. {
        // With a rate, requests are due at fixed times, whether the one before was slow or not.
        let due = rate.map(|rate| {
            begin + Duration::from_secs(1).mul_f64((turn * CONNECTIONS + number) as f64 / rate as f64)
        });
        if let Some(due) = due {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let sent = due.unwrap_or_else(Instant::now);
        if sent > begin + Duration::from_secs(seconds) {
            return durations;
        }
        // Far apart, so that caches of the processor do not make it look better than it is.
        stream.write_all(&bodies[(turn * CONNECTIONS + number) * 7919 % bodies.len()]).unwrap();
        let mut read = 0;
        loop {
            read += stream.read(&mut answer[read..]).unwrap();
            let text = std::str::from_utf8(&answer[..read]).unwrap();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                assert!(body.contains("\"allowed\":true"), "{text}");
                break;
            }
        }
        durations.push(sent.elapsed());
    }
    durations
}

fn report(what: &str, seconds: u64, durations: &[Duration]) {
    let at = |share: f64| durations[((durations.len() - 1) as f64 * share) as usize];
    println!(
        "{what}: {} reviews, {} a second, p50 {:?}, p99 {:?}, p99.9 {:?}",
        durations.len(),
        durations.len() as u64 / seconds,
        at(0.5),
        at(0.99),
        at(0.999)
    );
}

/// Kilobytes in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
