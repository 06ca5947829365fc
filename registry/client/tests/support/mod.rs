//! A registry that answers what a test tells it to, on the loopback interface, and remembers what it was asked.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, Request, Response, Uri},
};
use berth_client::{Client, Endpoint};
use berth_registry_core::RepositoryName;
use tokio::net::TcpListener;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Asked {
    pub(crate) fn path(&self) -> &str {
        self.uri.path()
    }

    pub(crate) fn query(&self) -> &str {
        self.uri.query().unwrap_or_default()
    }

    pub(crate) fn authorization(&self) -> &str {
        self.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A server that lives as long as the test's runtime.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    pub(crate) async fn start(
        answer: impl Fn(&Asked, &Fake) -> Response<Body> + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let router = fake.router(answer);
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    pub(crate) fn router(
        &self,
        answer: impl Fn(&Asked, &Fake) -> Response<Body> + Clone + Send + Sync + 'static,
    ) -> Router {
        let fake = self.clone();
        Router::new().fallback(move |request: Request<Body>| {
            let (fake, answer) = (fake.clone(), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
                let asked =
                    Asked { method: parts.method.to_string(), uri: parts.uri, headers: parts.headers, body };
                fake.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
                answer(&asked, &fake)
            }
        })
    }

    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { address, asked: Arc::default() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn client(&self) -> Client {
        self.client_with(|_| {})
    }

    /// A client that is not patient, so that failures show at once.
    pub(crate) fn client_with(&self, change: impl FnOnce(&mut Endpoint)) -> Client {
        let mut endpoint = Endpoint { retries: 0, public_roots: false, ..Endpoint::new(self.url()) };
        change(&mut endpoint);
        Client::new(endpoint).unwrap()
    }
}

pub(crate) fn status(status: u16) -> Response<Body> {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

pub(crate) fn reply(headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
    reply_with(200, headers, body)
}

pub(crate) fn reply_with(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

pub(crate) fn repository(name: &str) -> RepositoryName {
    name.parse().unwrap()
}
