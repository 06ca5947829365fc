//! A small registry in this process, and signatures as cosign writes them in its classic form. The real server is asked
//! in the cluster tests; here the registry must also be able to hang, to lie and to count.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use axum::{
    Router,
    extract::{Path, State},
    http::{
        HeaderMap, StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use berth_client::{Client, Credentials, Endpoint};
use berth_operator::webhook::{
    directory::{Directory, NoRegistry},
    outside::Outside,
};
use berth_operator_core::{
    asking::NotAsked,
    pulling::{Login, Pulling},
};
use berth_registry_core::{Digest, ImageReference};
use futures::{FutureExt, future::BoxFuture};
use serde_json::json;

/// The host by which the images of the tests name it.
pub(crate) const HOST: &str = "registry.team-a.svc.cluster.local";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[derive(Default)]
struct Content {
    /// By path below `/v2/`.
    objects: HashMap<String, (&'static str, Vec<u8>)>,
    /// Paths that were asked for.
    asked: Vec<String>,
    /// The header `Authorization` of each request, or nothing.
    logins: Vec<String>,
    /// What every request is answered with instead.
    broken: Option<Broken>,
}

/// Ways not to answer.
#[derive(Clone, Copy)]
pub(crate) enum Broken {
    /// Never; until that is over.
    Hangs,
    /// With 500.
    Fails,
}

/// The registry; clones share their content.
#[derive(Clone)]
pub(crate) struct Registry {
    content: Arc<Mutex<Content>>,
    address: SocketAddr,
    outside: Arc<Outside>,
}

impl Registry {
    /// `outside` says what Pods pull with.
    pub(crate) async fn start(outside: Outside) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let registry = Self { content: Arc::default(), address, outside: Arc::new(outside) };
        let router = Router::new().route("/v2/{*path}", get(answer)).with_state(registry.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        registry
    }

    /// Pushes an image that holds nothing but `text`, under a tag.
    pub(crate) fn push(&self, repository: &str, tag: &str, text: &str) -> Digest {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": [], "annotations": {"text": text},
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2, "digest": Digest::sha256(b"{}")},
        });
        self.put_manifest(repository, tag, manifest.to_string().into_bytes())
    }

    fn put_manifest(&self, repository: &str, tag: &str, bytes: Vec<u8>) -> Digest {
        let digest = Digest::sha256(&bytes);
        let objects = &mut self.content.lock().unwrap().objects;
        objects.insert(format!("{repository}/manifests/{digest}"), (MANIFEST, bytes.clone()));
        objects.insert(format!("{repository}/manifests/{tag}"), (MANIFEST, bytes));
        digest
    }

    /// Signs an image, as `cosign sign --new-bundle-format=false` does.
    pub(crate) fn sign(&self, repository: &str, digest: &Digest, key: &Key) {
        let payload = json!({
            "critical": {
                "identity": {"docker-reference": format!("{HOST}/{repository}")},
                "image": {"docker-manifest-digest": digest},
                "type": "cosign container image signature",
            },
            "optional": null,
        })
        .to_string()
        .into_bytes();
        let signature = key.0.sign(&SystemRandom::new(), &payload).unwrap();
        let layer = Digest::sha256(&payload);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": Digest::sha256(b"{}")},
            "layers": [{
                "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
                "size": payload.len(), "digest": layer,
                "annotations": {"dev.cosignproject.cosign/signature": BASE64_STANDARD.encode(signature.as_ref())},
            }],
        });
        self.put_manifest(
            repository,
            &format!("{}.sig", digest.referrers_tag()),
            manifest.to_string().into_bytes(),
        );
        let path = format!("{repository}/blobs/{layer}");
        self.content.lock().unwrap().objects.insert(path, ("application/octet-stream", payload));
    }

    /// Deletes what has these words in its path.
    pub(crate) fn delete(&self, path: &str) {
        self.content.lock().unwrap().objects.retain(|key, _| !key.contains(path));
    }

    pub(crate) fn break_down(&self, broken: Option<Broken>) {
        self.content.lock().unwrap().broken = broken;
    }

    /// Who asked, each time.
    pub(crate) fn logins(&self) -> Vec<String> {
        self.content.lock().unwrap().logins.clone()
    }

    /// How often something under a path was asked for.
    pub(crate) fn asked_for(&self, path: &str) -> usize {
        self.content.lock().unwrap().asked.iter().filter(|asked| asked.contains(path)).count()
    }
}

async fn answer(State(registry): State<Registry>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    let (broken, found) = {
        let mut content = registry.content.lock().unwrap();
        content.asked.push(path.clone());
        let login = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        content.logins.push(login.to_owned());
        (content.broken, content.objects.get(&path).cloned())
    };
    match (broken, found) {
        (Some(Broken::Hangs), _) => std::future::pending().await,
        (Some(Broken::Fails), _) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        (None, Some((media_type, bytes))) => ([(CONTENT_TYPE, media_type)], bytes).into_response(),
        (None, None) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Knows this registry only.
impl Directory for Registry {
    fn permits(&self, _: &str, host: &str) -> Result<(), NoRegistry> {
        if host == HOST { Ok(()) } else { Err(NotAsked::NotOurs(host.to_owned()).into()) }
    }

    fn client(&self, host: &str) -> Result<Client, NoRegistry> {
        let endpoint =
            Endpoint { address: Some(self.address), retries: 0, ..Endpoint::new(format!("http://{host}")) };
        Ok(Client::new(endpoint)?)
    }

    /// The same content under any other host, for whom the real one would log in.
    fn outside<'a>(
        &'a self,
        pulling: &'a Pulling,
        image: &'a ImageReference,
    ) -> BoxFuture<'a, Result<Client, NoRegistry>> {
        async move {
            let credentials = match self.outside.login(pulling, image).await? {
                Some(Login { username, password }) => Credentials::Basic { username, password },
                None => Credentials::Anonymous,
            };
            let (address, url) = (Some(self.address), format!("http://{}", image.host));
            Ok(Client::new(Endpoint { credentials, address, retries: 0, ..Endpoint::new(url) })?)
        }
        .boxed()
    }
}

/// A key pair.
pub(crate) struct Key(EcdsaKeyPair);

impl Key {
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    /// The public key as cosign writes it.
    pub(crate) fn pem(&self) -> String {
        let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        let text = BASE64_STANDARD.encode(der.as_ref());
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }
}
