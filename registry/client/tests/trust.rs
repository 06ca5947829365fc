//! Whom the client trusts, and to whom it shows who it is: TLS by its own CA and address, tokens, redirects.
//! Credentials never leave their host. Shows R-CLIENT-AUTH.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of this crate is test code")]

mod support;

use std::sync::Arc;

use axum::{body::Body, http::Response};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_client::{Client, Credentials, Endpoint, Reach};
use berth_registry_core::{Digest, Reference};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use support::{Asked, Fake, reply, reply_with, repository, status};
use tokio::net::TcpListener;

fn tag(name: &str) -> Reference {
    name.parse().unwrap()
}

fn basic() -> Credentials {
    Credentials::Basic { username: "ann".into(), password: "secret".into() }
}

fn basic_header() -> String {
    format!("Basic {}", STANDARD.encode("ann:secret"))
}

#[tokio::test]
async fn basic_credentials_are_sent_and_a_refusal_is_told() {
    let fake = Fake::start(|asked, _| match asked.authorization() {
        header if header == basic_header() => reply(&[], "{}"),
        _ => reply_with(401, &[("www-authenticate", r#"Basic realm="berth""#)], ""),
    })
    .await;
    fake.client_with(|e| e.credentials = basic()).manifest(&repository("a"), &tag("v")).await.unwrap();
    let wrong = Credentials::Basic { username: "ann".into(), password: "wrong".into() };
    for credentials in [wrong, Credentials::Anonymous, Credentials::Token("t".into())] {
        let client = fake.client_with(|e| e.credentials = credentials);
        let error = client.manifest(&repository("a"), &tag("v")).await.unwrap_err();
        assert_eq!(error.reason(), "Unauthorized", "{error}");
        assert!(!error.to_string().contains("wrong"), "no secret in a message: {error}");
    }
}

#[tokio::test]
async fn files_are_read_for_each_request() {
    let fake = Fake::start(|asked, _| reply(&[], asked.authorization().to_owned())).await;
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    let client = fake.client_with(|e| e.credentials = Credentials::TokenFile(token.clone()));
    let error = client.manifest(&repository("a"), &tag("v")).await.unwrap_err();
    assert_eq!(error.reason(), "CredentialsUnreadable");
    for text in ["one", "two\n"] {
        std::fs::write(&token, text).unwrap();
        let manifest = client.manifest(&repository("a"), &tag("v")).await.unwrap();
        assert_eq!(manifest.bytes, format!("Bearer {}", text.trim()));
    }
    std::fs::write(directory.path().join("username"), "ann\n").unwrap();
    std::fs::write(directory.path().join("password"), "secret").unwrap();
    let client = fake.client_with(|e| e.credentials = Credentials::BasicDirectory(directory.path().into()));
    let manifest = client.manifest(&repository("a"), &tag("v")).await.unwrap();
    assert_eq!(manifest.bytes, basic_header());
    let source = Arc::new(|| {
        let token: futures::future::BoxFuture<'static, _> = Box::pin(async { Ok("kept fresh".to_owned()) });
        token
    });
    let client = fake.client_with(|e| e.credentials = Credentials::TokenFrom(source));
    let manifest = client.manifest(&repository("a"), &tag("v")).await.unwrap();
    assert_eq!(manifest.bytes, "Bearer kept fresh");
}

/// Wants a token that its own `/token` hands out for user and password.
fn token_registry(asked: &Asked, fake: &Fake) -> Response<Body> {
    match (asked.path(), asked.authorization()) {
        ("/token", header) if header == basic_header() => {
            reply(&[], r#"{"token":"for-ann","expires_in":300}"#)
        }
        ("/token", "") => reply(&[], r#"{"access_token":"for-anybody"}"#),
        ("/token", _) => status(401),
        (_, "Bearer for-ann" | "Bearer for-anybody") => reply(&[], "{}"),
        _ => {
            let challenge =
                format!(r#"Bearer realm="{}/token",service="fake",scope="repository:a:pull""#, fake.url());
            reply_with(401, &[("www-authenticate", &challenge)], "")
        }
    }
}

#[tokio::test]
async fn a_token_is_fetched_once_and_used_again() {
    let fake = Fake::start(token_registry).await;
    for credentials in [basic(), Credentials::Anonymous] {
        let before = fake.asked().len();
        let client = fake.client_with(|e| e.credentials = credentials);
        client.manifest(&repository("a"), &tag("v1")).await.unwrap();
        client.manifest(&repository("a"), &tag("v2")).await.unwrap();
        let asked = &fake.asked()[before..];
        let paths: Vec<_> = asked.iter().map(Asked::path).collect();
        assert_eq!(paths, ["/v2/a/manifests/v1", "/token", "/v2/a/manifests/v1", "/v2/a/manifests/v2"]);
        assert_eq!(asked[1].query(), "service=fake&scope=repository%3Aa%3Apull");
    }
    let wrong = Credentials::Basic { username: "ann".into(), password: "no".into() };
    let client = fake.client_with(|e| e.credentials = wrong);
    assert_eq!(client.manifest(&repository("a"), &tag("v")).await.unwrap_err().reason(), "Unauthorized");
}

#[tokio::test]
async fn a_bearer_token_of_ours_is_never_traded() {
    let fake = Fake::start(token_registry).await;
    let client = fake.client_with(|e| e.credentials = Credentials::Token("service-account".into()));
    assert_eq!(client.manifest(&repository("a"), &tag("v")).await.unwrap_err().reason(), "Unauthorized");
    assert!(fake.asked().iter().all(|asked| asked.path() != "/token"));
}

#[tokio::test]
async fn a_registry_of_somebody_else_cannot_send_us_elsewhere() {
    let other = Fake::start(|_, _| reply(&[], "{}")).await;
    let elsewhere = other.url();
    let fake = Fake::start(move |asked, _| match asked.path() {
        "/v2/a/manifests/redirected" => reply_with(307, &[("location", &format!("{elsewhere}/x"))], ""),
        "/v2/a/blobs/uploads/" => reply_with(202, &[("location", &format!("{elsewhere}/upload"))], ""),
        _ => {
            let challenge = format!(r#"Bearer realm="{elsewhere}/token""#);
            reply_with(401, &[("www-authenticate", &challenge)], "")
        }
    })
    .await;
    let client = fake.client_with(|e| (e.reach, e.credentials) = (Reach::HostOnly, basic()));
    for name in ["redirected", "token"] {
        let error = client.manifest(&repository("a"), &tag(name)).await.unwrap_err();
        assert_eq!(error.reason(), "Protocol", "{error}");
    }
    let error = client.put_blob(&repository("a"), &Digest::sha256(b""), "".into()).await.unwrap_err();
    assert_eq!(error.reason(), "Protocol", "{error}");
    assert!(other.asked().is_empty());
}

#[tokio::test]
async fn a_redirect_or_an_upload_elsewhere_is_followed_without_credentials() {
    let storage = Fake::start(|asked, _| match asked.method.as_str() {
        "GET" => reply(&[], "blob"),
        _ => status(201),
    })
    .await;
    let elsewhere = storage.url();
    let fake = Fake::start(move |asked, _| match asked.method.as_str() {
        "GET" => reply_with(307, &[("location", &format!("{elsewhere}/signed"))], ""),
        _ => reply_with(202, &[("location", &format!("{elsewhere}/upload"))], ""),
    })
    .await;
    let client = fake.client_with(|e| e.credentials = basic());
    let digest = Digest::sha256(b"blob");
    client.blob(&repository("a"), &digest, 10).await.unwrap();
    client.put_blob(&repository("a"), &digest, "blob".into()).await.unwrap();
    assert_eq!(storage.asked().len(), 2);
    assert!(storage.asked().iter().all(|asked| asked.authorization().is_empty()));
    assert!(fake.asked().iter().all(|asked| asked.authorization() == basic_header()));
}

/// A CA and a TLS server for `registry.team.svc` that it vouches for.
async fn tls_server() -> (String, Fake) {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf =
        CertificateParams::new(vec!["registry.team.svc".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let fake = Fake::at(listener.local_addr().unwrap());
    let router = fake.router(|_, _| reply(&[], "{}"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = hyper_util::service::TowerToHyperService::new(router);
                let server =
                    hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                let _ = server.serve_connection(hyper_util::rt::TokioIo::new(stream), service).await;
            });
        }
    });
    (ca.pem(), fake)
}

#[tokio::test]
async fn a_private_ca_and_a_fixed_address_reach_a_name_without_dns() {
    let (ca, server) = tls_server().await;
    let endpoint = Endpoint {
        address: Some(server.address),
        ca_pem: ca.into_bytes(),
        public_roots: false,
        ..Endpoint::new("https://registry.team.svc")
    };
    let client = Client::new(endpoint.clone()).unwrap();
    client.manifest(&repository("a"), &tag("v")).await.unwrap();

    // The name counts although the address is given, and so does the CA; neither failure is repeated.
    let (other_ca, _) = tls_server().await;
    let wrong_name = Endpoint { url: "https://registry.evil.svc".into(), ..endpoint.clone() };
    let wrong_ca = Endpoint { ca_pem: other_ca.into_bytes(), ..endpoint };
    for endpoint in [wrong_name, wrong_ca] {
        let error = Client::new(endpoint).unwrap().manifest(&repository("a"), &tag("v")).await.unwrap_err();
        assert_eq!(error.reason(), "Untrusted", "{error}");
    }
    assert_eq!(server.asked().len(), 1);
}

/// A name that leads into our own network leads nowhere with `Reach::Public`: not with the first request, and neither
/// by a redirect nor by the token server that a registry names.
#[tokio::test]
async fn public_registries_do_not_lead_inside() {
    let fake = Fake::start(|_, _| reply(&[], "{}")).await;
    let url = format!("http://localhost:{}", fake.address.port());
    let client = fake.client_with(|endpoint| (endpoint.reach, endpoint.url) = (Reach::Public, url));
    let error = client.catalog().await.unwrap_err();
    assert!(error.to_string().contains("localhost has no public address"), "{error}");
    assert!(fake.asked().is_empty(), "nothing was sent");
}
