//! Who we are to one registry. A client holds the credentials of a single host, so that they cannot reach another;
//! what comes from a file is read anew for each request, because Kubernetes rotates it underneath.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::future::BoxFuture;

/// Where a bearer token comes from when neither text nor file will do. Errors are shown to people.
pub type TokenSource = Arc<dyn Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

/// Credentials for one registry.
#[derive(Clone, Default)]
pub enum Credentials {
    /// None. A registry that hands out tokens to anybody is asked for one.
    #[default]
    Anonymous,
    /// User and password; exchanged for a token where the registry asks for that.
    Basic {
        /// User.
        username: String,
        /// Password.
        password: String,
    },
    /// A directory with the files `username` and `password`, as a basic-auth Secret is mounted.
    BasicDirectory(PathBuf),
    /// A bearer token, sent as it is.
    Token(String),
    /// A file with a bearer token.
    TokenFile(PathBuf),
    /// A bearer token that somebody else keeps fresh.
    TokenFrom(TokenSource),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Basic { username, .. } => f.debug_struct("Basic").field("username", username).finish(),
            Self::BasicDirectory(path) => f.debug_tuple("BasicDirectory").field(path).finish(),
            Self::Token(_) => f.write_str("Token"),
            Self::TokenFile(path) => f.debug_tuple("TokenFile").field(path).finish(),
            Self::TokenFrom(_) => f.write_str("TokenFrom"),
        }
    }
}

/// Credentials as they go into a header.
#[derive(Clone)]
pub(crate) enum Resolved {
    Anonymous,
    Basic(String, String),
    Token(String),
}

impl Credentials {
    /// Reads what has to be read. Errors say which file and why.
    pub(crate) async fn resolve(&self) -> Result<Resolved, String> {
        Ok(match self {
            Self::Anonymous => Resolved::Anonymous,
            Self::Basic { username, password } => Resolved::Basic(username.clone(), password.clone()),
            Self::BasicDirectory(directory) => Resolved::Basic(
                read(&directory.join("username")).await?,
                read(&directory.join("password")).await?,
            ),
            Self::Token(token) => Resolved::Token(token.clone()),
            Self::TokenFile(path) => Resolved::Token(read(path).await?),
            Self::TokenFrom(source) => Resolved::Token(source().await?),
        })
    }
}

async fn read(path: &Path) -> Result<String, String> {
    let text = tokio::fs::read_to_string(path).await.map_err(|e| format!("{}: {e}", path.display()))?;
    // Secrets made with an editor end in a newline that was never meant.
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(text.to_owned()) }
}
