//! A user of a registry: a home folder with the authority's certificate, and a password.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::Command;

use crate::support::authority::{self, Authority};
use crate::support::http::Failure;
use crate::support::http::{Target, ensure};
use crate::support::process::PATIENCE;
use crate::support::server::{Options, Server, directory, htpasswd};

pub(crate) const NAME: &str = "ci";
pub(crate) const PASSWORD: &str = "choose-a-password";

/// A registry that only [`NAME`] may use, and that user's home.
pub(crate) struct User {
    server: Server,
    home: TempDir,
    /// The registry as this user, asked by the tests' own client.
    pub(crate) target: Target,
}

/// The program of a client, or `None` after saying why the caller passes by.
pub(crate) fn client(name: &str) -> Option<PathBuf> {
    let variable = format!("BERTH_TOOL_{}", name.to_uppercase());
    let program = std::env::var_os(&variable).map(PathBuf::from);
    if program.is_none() {
        println!("skipped: {variable} does not name a program");
    }
    program
}

impl User {
    /// Starts a registry with an empty directory.
    pub(crate) async fn new() -> Self {
        let (home, issuer) = (TempDir::new().expect("a directory can be made"), Authority::new());
        let (certificate, key, _) = issuer.leaf();
        let write = |name: &str, content: &str| {
            std::fs::write(home.path().join(name), content).expect("a file can be written");
        };
        write("ca.crt", &issuer.pem);
        authority::write(home.path(), &certificate, &key);
        write("htpasswd", &htpasswd(NAME, PASSWORD));
        let options = Options::on(&directory(&home.path().join("content")))
            .flag("--tls-cert", home.path().join("tls.crt"))
            .flag("--tls-key", home.path().join("tls.key"))
            .flag("--htpasswd", home.path().join("htpasswd"));
        let (server, target) = issuer.start(&options).await;
        Self { server, home, target: target.login(NAME, PASSWORD) }
    }

    /// `HOST:PORT` of the registry.
    pub(crate) fn registry(&self) -> &str {
        &self.server.address
    }

    /// A full reference: `app:v1` at this registry.
    pub(crate) fn image(&self, path: &str) -> String {
        format!("{}/{path}", self.server.address)
    }

    /// A path in the user's home, which is also where programs run.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Runs a program that must succeed, and returns what it printed.
    pub(crate) async fn run(&self, program: &Path, arguments: &[&str]) -> Result<String, Failure> {
        let home = self.home.path();
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(home)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home)
            .env("DOCKER_CONFIG", home.join("docker"))
            .env("REGISTRY_AUTH_FILE", home.join("auth.json"))
            .env("XDG_RUNTIME_DIR", home)
            .env("SSL_CERT_FILE", home.join("ca.crt"))
            .env("COSIGN_PASSWORD", "")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let line = format!("{} {}", program.display(), arguments.join(" "));
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        let output = output.map_err(|_| Failure(format!("`{line}` does not end")))?;
        let output = output.map_err(|error| Failure(format!("cannot start `{line}`: {error}")))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let (printed, complaint) = (text(&output.stdout), text(&output.stderr));
        ensure!(output.status.success(), "`{line}`: {}\n{complaint}\n{printed}", output.status);
        Ok(printed)
    }
}
