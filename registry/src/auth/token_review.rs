//! Kubernetes `ServiceAccount` tokens, checked by the API server (`TokenReview`, bound to this registry's audience).
//! An answer is remembered for half a minute, so that a pull of many layers asks once.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};
use berth_registry_core::config::{Role, ServiceAccounts};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use super::{AuthError, Caller, Grant};
use crate::outbound::{Outbound, OutboundError};

const REMEMBER: Duration = Duration::from_secs(30);
/// A refusal is remembered for less: the token may be fresh and the API server behind.
const REMEMBER_REFUSAL: Duration = Duration::from_secs(5);
const MAX_REMEMBERED: usize = 4096;
const TIMEOUT: Duration = Duration::from_secs(5);
const AT_ONCE: usize = 8;
/// Longer is no token; tokens have about a kilobyte.
const MAX_TOKEN: usize = 16 * 1024;
const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Why tokens cannot be checked at all.
#[derive(Debug, thiserror::Error)]
pub enum TokenReviewError {
    /// Not in a cluster.
    #[error(
        "serviceAccounts needs a Kubernetes API server: {0} is not set, run the registry in a Pod or leave serviceAccounts out"
    )]
    NoCluster(&'static str),
    /// There is no client of the API server.
    #[error("cannot ask the Kubernetes API server: {0}")]
    Client(#[from] OutboundError),
}

/// Where the API server is, and who asks it.
pub struct ApiServer {
    /// `https://host:port`.
    pub url: String,
    /// PEM certificates that it is trusted by.
    pub ca_file: PathBuf,
    /// The registry's own token; Kubernetes renews it, so it is read for each review.
    pub token_file: PathBuf,
}

impl ApiServer {
    /// What Kubernetes tells every Pod.
    pub fn in_cluster() -> Result<Self, TokenReviewError> {
        let variable = |name| std::env::var(name).map_err(|_| TokenReviewError::NoCluster(name));
        let host = variable("KUBERNETES_SERVICE_HOST")?;
        let port = variable("KUBERNETES_SERVICE_PORT")?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let mount = PathBuf::from(MOUNT);
        Ok(Self {
            url: format!("https://{host}:{port}"),
            ca_file: mount.join("ca.crt"),
            token_file: mount.join("token"),
        })
    }
}

/// Checks tokens.
pub struct TokenReviewer {
    outbound: Outbound,
    server: ApiServer,
    audience: String,
    grants: HashMap<String, Role>,
    turns: Semaphore,
    seen: Mutex<HashMap<[u8; 32], Seen>>,
}

struct Seen {
    until: Instant,
    caller: Option<Caller>,
}

#[derive(Deserialize)]
struct Review {
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    authenticated: bool,
    user: User,
    audiences: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
}

impl TokenReviewer {
    /// Reads the API server's CA; asks nothing yet.
    pub async fn new(server: ApiServer, accounts: ServiceAccounts) -> Result<Self, TokenReviewError> {
        let outbound = Outbound::new(server.ca_file.clone(), TIMEOUT).await?;
        Ok(Self {
            outbound,
            server,
            audience: accounts.audience,
            grants: accounts.allow.into_iter().map(|grant| (grant.name, grant.role)).collect(),
            turns: Semaphore::new(AT_ONCE),
            seen: Mutex::default(),
        })
    }

    /// Says whose token it is and what it may do. A valid token that no grant names may do nothing.
    pub async fn check(&self, token: &str) -> Result<Caller, AuthError> {
        if token.is_empty() || token.len() > MAX_TOKEN {
            return Err(AuthError::Refused);
        }
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if let Some(answer) = self.remembered(&key) {
            return answer;
        }
        let Ok(Ok(_turn)) = tokio::time::timeout(TIMEOUT, self.turns.acquire()).await else {
            return Err(AuthError::Busy);
        };
        if let Some(answer) = self.remembered(&key) {
            return answer;
        }
        let caller = self.review(token).await?.map(|name| {
            let grant = self.grants.get(&name).map_or(Grant::Nothing, |role| Grant::Role(*role));
            Caller { name: Some(name), grant }
        });
        self.remember(key, caller.clone());
        caller.ok_or(AuthError::Refused)
    }

    fn remembered(&self, key: &[u8; 32]) -> Option<Result<Caller, AuthError>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(key)
            .filter(|seen| Instant::now() < seen.until)
            .map(|seen| seen.caller.clone().ok_or(AuthError::Refused))
    }

    fn remember(&self, key: [u8; 32], caller: Option<Caller>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if seen.len() >= MAX_REMEMBERED {
            seen.retain(|_, seen| now < seen.until);
        }
        if seen.len() >= MAX_REMEMBERED {
            seen.clear();
        }
        let until = now + if caller.is_some() { REMEMBER } else { REMEMBER_REFUSAL };
        seen.insert(key, Seen { until, caller });
    }

    /// The user name of the token's owner; `None` if the token is not valid for this registry.
    async fn review(&self, token: &str) -> Result<Option<String>, AuthError> {
        let unavailable = |why: String| AuthError::Unavailable(why);
        let own = tokio::fs::read_to_string(&self.server.token_file).await.map_err(|error| {
            unavailable(format!("cannot read {}: {error}", self.server.token_file.display()))
        })?;
        let client = self.outbound.client().await;
        let response = client
            .post(format!("{}/apis/authentication.k8s.io/v1/tokenreviews", self.server.url))
            .bearer_auth(own.trim())
            .json(&json!({
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "spec": {"token": token, "audiences": [self.audience]},
            }))
            .send()
            .await
            .map_err(|error| unavailable(format!("the Kubernetes API server did not answer: {error}")))?;
        if !response.status().is_success() {
            let status = response.status();
            return Err(unavailable(format!(
                "the Kubernetes API server answered {status}; the registry's ServiceAccount needs the right to create tokenreviews"
            )));
        }
        let Review { status } = response
            .json()
            .await
            .map_err(|error| unavailable(format!("the TokenReview is not readable: {error}")))?;
        // An API server that does not know audiences would accept any token of the cluster.
        let ours = status.authenticated && status.audiences.contains(&self.audience);
        Ok(ours.then_some(status.user.username))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use axum::{Json, Router, http::HeaderMap, routing::post};
    use berth_registry_core::config::ServiceAccountGrant;

    use super::*;

    const AUDIENCE: &str = "https://registry.team-a.svc";

    /// An API server that knows the tokens `operator`, `stranger`, `elsewhere` (another audience) and `broken`.
    async fn api_server(asked: Arc<AtomicUsize>) -> String {
        let review = move |headers: HeaderMap, Json(review): Json<serde_json::Value>| async move {
            asked.fetch_add(1, Ordering::SeqCst);
            assert_eq!(headers["authorization"], "Bearer own");
            assert_eq!(review["spec"]["audiences"], json!([AUDIENCE]));
            let valid = |name: &str, audiences: &[&str]| {
                Json(
                    json!({"status": {"authenticated": true, "user": {"username": name}, "audiences": audiences}}),
                )
            };
            match review["spec"]["token"].as_str().unwrap_or_default() {
                "operator" => valid("system:serviceaccount:berth-system:berth-operator", &[AUDIENCE]),
                "stranger" => valid("system:serviceaccount:x:y", &[AUDIENCE]),
                "elsewhere" => valid("system:serviceaccount:berth-system:berth-operator", &["other"]),
                "broken" => Json(json!("?")),
                _ => Json(json!({"status": {"error": "no such token"}})),
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/apis/authentication.k8s.io/v1/tokenreviews", post(review));
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    #[tokio::test]
    async fn tokens_are_checked_by_the_api_server() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let (ca_file, token_file) = (directory.path().join("ca.crt"), directory.path().join("token"));
        let ca = rcgen::generate_simple_self_signed(["api".to_owned()]).unwrap();
        std::fs::write(&ca_file, ca.cert.pem()).unwrap();
        std::fs::write(&token_file, "own\n").unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let server = ApiServer { url: api_server(asked.clone()).await, ca_file, token_file };
        let name = "system:serviceaccount:berth-system:berth-operator".to_owned();
        let allow = vec![ServiceAccountGrant { name: name.clone(), role: Role::Pull }];
        let accounts = ServiceAccounts { audience: AUDIENCE.to_owned(), allow };
        let reviewer = TokenReviewer::new(server, accounts).await.unwrap();

        let operator = Caller { name: Some(name), grant: Grant::Role(Role::Pull) };
        assert_eq!(reviewer.check("operator").await, Ok(operator.clone()));
        assert_eq!(reviewer.check("operator").await, Ok(operator));
        assert_eq!(asked.load(Ordering::SeqCst), 1, "remembered");
        assert_eq!(reviewer.check("stranger").await.unwrap().grant, Grant::Nothing);
        assert_eq!(reviewer.check("elsewhere").await, Err(AuthError::Refused));
        assert_eq!(reviewer.check("forged").await, Err(AuthError::Refused));
        assert!(matches!(reviewer.check("broken").await, Err(AuthError::Unavailable(_))));
        let before = asked.load(Ordering::SeqCst);
        assert_eq!(reviewer.check("").await, Err(AuthError::Refused));
        assert_eq!(reviewer.check(&"x".repeat(MAX_TOKEN + 1)).await, Err(AuthError::Refused));
        assert_eq!(asked.load(Ordering::SeqCst), before, "nonsense is not sent on");
    }
}
