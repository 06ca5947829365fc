//! The operator's own tokens for registries: one audience each, asked of the API server, kept for most of their life.
//! A token for one registry is worth nothing at another.

use std::{collections::HashMap, sync::Arc};

use berth_client::TokenSource;
use futures::FutureExt;
use jiff::Timestamp;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, Client, api::PostParams};
use tokio::sync::Mutex;

/// What is asked for. The API server may shorten it.
const LIFETIME_SECONDS: i64 = 3600;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The API server refused or could not be reached.
    #[error("the API server issues no token: {0}")]
    Refused(#[from] kube::Error),
    /// It answered without a token.
    #[error("the API server answered without a token")]
    Empty,
}

/// Asks for tokens of one `ServiceAccount` and keeps them until four fifths of their life are over.
#[derive(Clone)]
pub struct Tokens {
    api: Api<ServiceAccount>,
    service_account: String,
    kept: Arc<std::sync::Mutex<HashMap<String, Slot>>>,
}

/// One audience. Whoever holds the lock asks; the others wait for the answer and share it.
type Slot = Arc<Mutex<Option<Token>>>;

#[derive(Clone)]
struct Token {
    text: String,
    renew_at: Timestamp,
}

impl Tokens {
    /// Tokens of `service_account` in `namespace`.
    pub fn new(client: Client, namespace: &str, service_account: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            service_account: service_account.to_owned(),
            kept: Arc::default(),
        }
    }

    /// A source of tokens for one audience, for example `https://registry.team-a.svc.cluster.local`.
    pub fn source(&self, audience: &str) -> TokenSource {
        let (tokens, audience) = (self.clone(), audience.to_owned());
        Arc::new(move || {
            let (tokens, audience) = (tokens.clone(), audience.clone());
            async move { tokens.get(&audience).await.map_err(|error| error.to_string()) }.boxed()
        })
    }

    /// Forgets the token of an audience, because it was refused.
    pub fn forget(&self, audience: &str) {
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(audience);
    }

    /// A token that is good for the given audience, now.
    pub async fn get(&self, audience: &str) -> Result<String, TokenError> {
        let slot = {
            let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            kept.entry(audience.to_owned()).or_default().clone()
        };
        let mut slot = slot.lock().await;
        if let Some(token) = slot.as_ref().filter(|token| Timestamp::now() < token.renew_at) {
            return Ok(token.text.clone());
        }
        let token = self.request(audience).await?;
        *slot = Some(token.clone());
        Ok(token.text)
    }

    async fn request(&self, audience: &str) -> Result<Token, TokenError> {
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(vec![audience.to_owned()]),
                expiration_seconds: Some(LIFETIME_SECONDS),
                bound_object_ref: None,
            }),
            ..TokenRequest::default()
        };
        let asked = Timestamp::now();
        let answer =
            self.api.create_token_request(&self.service_account, &PostParams::default(), &request).await?;
        let status = answer.status.unwrap_or_default();
        let (Some(text), Some(expires)) = (status.token, status.expiration_timestamp) else {
            return Err(TokenError::Empty);
        };
        let life = expires.0.as_second().saturating_sub(asked.as_second()).max(0);
        let renew_at =
            Timestamp::from_second(asked.as_second().saturating_add(life / 5 * 4)).unwrap_or(asked);
        Ok(Token { text, renew_at })
    }
}
