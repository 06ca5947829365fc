//! How a request proves who sends it: nothing, Basic, a bearer token, or a token from the registry's token server.
//! Tokens are cached by what they allow; the credentials themselves go to no host but their own and, over https,
//! to the token server that this host names (never with `Reach::HostOnly`).

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use berth_registry_core::RepositoryName;
use reqwest::{RequestBuilder, Response, Url, header::HeaderMap};
use serde::Deserialize;

use crate::{
    challenge::{self, Challenge},
    client::{Client, read_bounded},
    credentials::Resolved,
    endpoint::Reach,
    error::ClientError,
};

/// What a request needs to be allowed to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    Catalog,
    Pull(RepositoryName),
    Push(RepositoryName),
    /// Push to the first and read from the second, for a mount.
    Mount(RepositoryName, RepositoryName),
}

impl Scope {
    /// As the token protocol writes it.
    fn parameters(&self) -> Vec<String> {
        match self {
            Self::Catalog => vec!["registry:catalog:*".to_owned()],
            Self::Pull(repository) => vec![format!("repository:{repository}:pull")],
            Self::Push(repository) => vec![format!("repository:{repository}:pull,push")],
            Self::Mount(repository, from) => {
                vec![format!("repository:{repository}:pull,push"), format!("repository:{from}:pull")]
            }
        }
    }
}

/// Tokens by scope, each with the end of its life.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<BTreeMap<Scope, (String, Instant)>>);

impl Tokens {
    fn get(&self, scope: &Scope) -> Option<String> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(scope).filter(|(_, end)| *end > Instant::now()).map(|(token, _)| token.clone())
    }

    fn put(&self, scope: Scope, token: String, life: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(scope, (token, Instant::now() + life));
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// The most bytes that a token server may answer.
const MAX_TOKEN: u64 = 1024 * 1024;

impl Client {
    /// Sends what `request` builds, with credentials; answers one challenge. `request` is called again for the
    /// second try and returns `None` when its body cannot be sent twice.
    pub(crate) async fn authorized(
        &self,
        scope: &Scope,
        what: &str,
        mut request: impl FnMut() -> Option<RequestBuilder>,
    ) -> Result<Response, ClientError> {
        let credentials = self.resolve().await?;
        let Some(first) = request() else { return Err(self.protocol(what, "its body was used up")) };
        let first = match (self.tokens().get(scope), &credentials) {
            (Some(token), _) => first.bearer_auth(token),
            (None, Resolved::Token(token)) => first.bearer_auth(token),
            (None, Resolved::Basic(username, password)) => first.basic_auth(username, Some(password)),
            (None, Resolved::Anonymous) => first,
        };
        let answer = self.execute(first).await?;
        if answer.status() != reqwest::StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let token = self.answer(scope, what, &credentials, answer.headers()).await?;
        match request() {
            Some(second) => self.execute(second.bearer_auth(token)).await,
            None => Ok(answer),
        }
    }

    /// Turns a challenge into a token, or says why there is none.
    async fn answer(
        &self,
        scope: &Scope,
        what: &str,
        credentials: &Resolved,
        headers: &HeaderMap,
    ) -> Result<String, ClientError> {
        let refused = |hint: &str| ClientError::Unauthorized {
            host: self.host().to_owned(),
            what: what.to_owned(),
            hint: hint.to_owned(),
        };
        let challenge = challenge::read(headers);
        let (realm, service, challenged) = match (credentials, challenge) {
            (Resolved::Token(_), _) => return Err(refused("the bearer token is not accepted")),
            (Resolved::Basic(..), None | Some(Challenge::Basic)) => {
                return Err(refused("check user and password"));
            }
            (Resolved::Anonymous, None | Some(Challenge::Basic)) => {
                return Err(refused("it wants user and password, and none are given"));
            }
            (_, Some(Challenge::Bearer { realm, service, scope })) => (realm, service, scope),
        };
        let url = self.token_url(scope, what, &realm, service.as_deref(), challenged.as_deref())?;
        let request = self.http().get(url);
        let request = match credentials {
            Resolved::Basic(username, password) => request.basic_auth(username, Some(password)),
            _ => request,
        };
        let answer = self.execute(request).await?;
        match answer.status().as_u16() {
            200 => {}
            401 | 403 => return Err(refused("its token server does not accept user and password")),
            status @ 500.. => {
                return Err(ClientError::Unreachable {
                    host: self.host().to_owned(),
                    cause: format!("its token server answers {status}"),
                });
            }
            status => return Err(self.protocol(what, format!("its token server answers {status}"))),
        }
        let body = read_bounded(answer, MAX_TOKEN, self.host(), "its token server's answer").await?;
        let answer: TokenAnswer = serde_json::from_slice(&body)
            .map_err(|e| self.protocol(what, format!("its token server's answer is no JSON: {e}")))?;
        let token = answer
            .token
            .or(answer.access_token)
            .ok_or_else(|| self.protocol(what, "its token server's answer holds no token"))?;
        // A token without a stated life lives for a minute; a little less, so that none expires on the way.
        let life = Duration::from_secs(answer.expires_in.unwrap_or(60).clamp(60, 86_400) - 15);
        self.tokens().put(scope.clone(), token.clone(), life);
        Ok(token)
    }

    fn token_url(
        &self,
        scope: &Scope,
        what: &str,
        realm: &str,
        service: Option<&str>,
        challenged: Option<&str>,
    ) -> Result<Url, ClientError> {
        let mut url = Url::parse(realm)
            .map_err(|e| self.protocol(what, format!("its token server {realm:?} is no URL: {e}")))?;
        if url.scheme() != "https" && self.base().scheme() == "https" {
            return Err(self.protocol(what, format!("its token server {realm:?} is not https")));
        }
        if self.reach() == Reach::HostOnly && url.origin() != self.base().origin() {
            return Err(self.protocol(what, format!("its token server {realm:?} is another host")));
        }
        if self.reach() == Reach::Public && url.domain().is_none() {
            return Err(
                self.protocol(what, format!("its token server {realm:?} is an address without a name"))
            );
        }
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = service {
                query.append_pair("service", service);
            }
            // What we need, and what the registry says it needs if that is more (its own name of the repository).
            let mut scopes = scope.parameters();
            for scope in challenged.unwrap_or_default().split_ascii_whitespace() {
                if !scopes.iter().any(|known| known == scope) {
                    scopes.push(scope.to_owned());
                }
            }
            for scope in &scopes {
                query.append_pair("scope", scope);
            }
        }
        Ok(url)
    }

    async fn resolve(&self) -> Result<Resolved, ClientError> {
        self.credentials()
            .resolve()
            .await
            .map_err(|cause| ClientError::Credentials { host: self.host().to_owned(), cause })
    }

    async fn execute(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        request.send().await.map_err(|e| ClientError::transport(self.host(), e))
    }
}
