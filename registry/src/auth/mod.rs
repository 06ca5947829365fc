//! Who calls, and what they may do. `http::dispatch` asks [`Authenticator`] once a request, before it looks at content.
//! Users come from an htpasswd file, Kubernetes `ServiceAccounts` by `TokenReview`; without credentials a caller is anonymous.

pub mod htpasswd;
pub mod token_review;

use std::collections::HashSet;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use berth_registry_core::config::{Anonymous, Role};
use http::{HeaderMap, header::AUTHORIZATION};

use self::{htpasswd::Users, token_review::TokenReviewer};

/// With this user name the password is a `ServiceAccount` token, for clients that know only Basic.
const TOKEN_USER: &str = "serviceaccount";

/// What a request wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask whether there is a registry.
    Ping,
    /// Read content and lists.
    Pull,
    /// Write content.
    Push,
    /// Delete content.
    Delete,
    /// Ask what content takes.
    Inspect,
    /// Start the maintenance jobs, and ask what they know.
    Maintain,
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Nothing.
    Nothing,
    /// One role.
    Role(Role),
    /// Everything.
    Everything,
}

impl Grant {
    /// Whether it suffices.
    pub fn allows(self, action: Action) -> bool {
        match (self, action) {
            (Self::Nothing, _) => false,
            (Self::Everything, _) | (Self::Role(_), Action::Ping) => true,
            (Self::Role(Role::Pull), action) => action == Action::Pull,
            (Self::Role(Role::Inspect), action) => matches!(action, Action::Pull | Action::Inspect),
            (Self::Role(Role::Push), action) => matches!(action, Action::Pull | Action::Push),
            (Self::Role(Role::Maintain), action) => matches!(action, Action::Inspect | Action::Maintain),
        }
    }
}

impl From<Anonymous> for Grant {
    fn from(anonymous: Anonymous) -> Self {
        match anonymous {
            Anonymous::None => Self::Nothing,
            Anonymous::Read => Self::Role(Role::Pull),
            Anonymous::Write => Self::Everything,
        }
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user's or `ServiceAccount`'s name; `None` is anonymous.
    pub name: Option<String>,
    /// What it may do.
    pub grant: Grant,
}

/// Why a caller is not let in.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The header is malformed or has an unknown scheme.
    #[error("the Authorization header is malformed: send Basic or Bearer credentials")]
    Malformed,
    /// The credentials are wrong.
    #[error("the credentials are not valid")]
    Refused,
    /// Too many password checks at once.
    #[error("too many logins at once")]
    Busy,
    /// The Kubernetes API server could not be asked.
    #[error("the token could not be checked: {0}")]
    Unavailable(String),
}

/// Tells who calls.
#[derive(Default)]
pub struct Authenticator {
    /// What a caller without credentials may do.
    pub anonymous: Anonymous,
    /// The users file, if there is one.
    pub users: Option<Users>,
    /// Users who may only pull; the others may do everything.
    pub pull_only: HashSet<String>,
    /// How tokens are checked, if they are accepted.
    pub tokens: Option<TokenReviewer>,
}

impl Authenticator {
    /// Reads the `Authorization` header. Wrong credentials are an error, also where none would have sufficed.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, AuthError> {
        match headers.get(AUTHORIZATION).map(|header| Credentials::parse(header.as_bytes())) {
            None | Some(Ok(Credentials::None)) => Ok(Caller { name: None, grant: self.anonymous.into() }),
            Some(Ok(Credentials::Basic { user, password })) => {
                if let (Some(tokens), TOKEN_USER) = (&self.tokens, user.as_str()) {
                    return Box::pin(tokens.check(&password)).await;
                }
                let users = self.users.as_ref().ok_or(AuthError::Refused)?;
                Box::pin(users.check(&user, password)).await?;
                let pulls = self.pull_only.contains(&user);
                let grant = if pulls { Grant::Role(Role::Pull) } else { Grant::Everything };
                Ok(Caller { name: Some(user), grant })
            }
            Some(Ok(Credentials::Bearer(token))) => {
                Box::pin(self.tokens.as_ref().ok_or(AuthError::Refused)?.check(&token)).await
            }
            Some(Err(error)) => Err(error),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Credentials {
    None,
    Basic { user: String, password: String },
    Bearer(String),
}

impl Credentials {
    fn parse(header: &[u8]) -> Result<Self, AuthError> {
        let header = std::str::from_utf8(header).map_err(|_| AuthError::Malformed)?;
        let (scheme, value) = header.trim().split_once(' ').ok_or(AuthError::Malformed)?;
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Self::Bearer(value.to_owned()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(AuthError::Malformed);
        }
        let decoded = BASE64_STANDARD.decode(value).map_err(|_| AuthError::Malformed)?;
        let decoded = String::from_utf8(decoded).map_err(|_| AuthError::Malformed)?;
        match decoded.split_once(':') {
            // Some clients answer a Basic challenge with empty credentials when they have none.
            Some(("", "")) => Ok(Self::None),
            Some((user, password)) => {
                Ok(Self::Basic { user: user.to_owned(), password: password.to_owned() })
            }
            None => Err(AuthError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Grant::Nothing, [false; 6])]
    #[case(Grant::Everything, [true; 6])]
    #[case(Grant::Role(Role::Pull), [true, true, false, false, false, false])]
    #[case(Grant::Role(Role::Inspect), [true, true, false, false, true, false])]
    #[case(Grant::Role(Role::Push), [true, true, true, false, false, false])]
    #[case(Grant::Role(Role::Maintain), [true, false, false, false, true, true])]
    fn grants(#[case] grant: Grant, #[case] allows: [bool; 6]) {
        let actions =
            [Action::Ping, Action::Pull, Action::Push, Action::Delete, Action::Inspect, Action::Maintain];
        assert_eq!(actions.map(|action| grant.allows(action)), allows);
    }

    #[rstest]
    #[case("Basic dTpwOnE=", Some("u/p:q"))]
    #[case("basic  dTpwOnE=", Some("u/p:q"))]
    #[case("Basic Og==", Some("none"))]
    #[case("Bearer abc", Some("token abc"))]
    #[case("Basic", None)]
    #[case("Basic !!", None)]
    #[case("Basic dQ==", None)]
    #[case("Digest x", None)]
    fn headers(#[case] header: &str, #[case] expected: Option<&str>) {
        let shown = Credentials::parse(header.as_bytes()).ok().map(|credentials| match credentials {
            Credentials::None => "none".to_owned(),
            Credentials::Basic { user, password } => format!("{user}/{password}"),
            Credentials::Bearer(token) => format!("token {token}"),
        });
        assert_eq!(shown.as_deref(), expected);
    }
}
