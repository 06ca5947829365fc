//! Somebody at a terminal: a home folder with keys and policies, a registry, the plugin and cosign.

use std::{
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use berth_client::{Client, Credentials, Endpoint};
use berth_registry_core::Digest;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::registry::{Registry, push};

/// As long as `127.0.0.1:PORT`, so that the columns of a table stay as they are.
const HOST: &str = "registry.test:1";

const NAME: &str = "ci";
const PASSWORD: &str = "choose-a-password";

pub(crate) struct User {
    home: TempDir,
    cosign: PathBuf,
    registry: Registry,
    client: Client,
}

impl User {
    /// With a registry that anyone may use without TLS; none if a program is missing.
    pub(crate) fn new() -> Option<Self> {
        let (cosign, home) = (cosign()?, TempDir::new().unwrap());
        let registry = Registry::start(&["--plain-http", "--anonymous", "write"])?;
        let client = Client::new(Endpoint::new(format!("http://{}", registry.host))).unwrap();
        Some(Self { home, cosign, registry, client })
    }

    /// With a registry that only one user may use, over TLS by an authority of its own: `ca.crt`, `password`.
    pub(crate) fn guarded() -> Option<Self> {
        let (cosign, home) = (cosign()?, TempDir::new().unwrap());
        let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
        let authority = authority(&write);
        write("htpasswd", &format!("{NAME}:{}\n", bcrypt::hash(PASSWORD, 4).unwrap()));
        write("password", &format!("{PASSWORD}\n"));
        let path = |name: &str| home.path().join(name).display().to_string();
        let flags =
            ["--tls-cert", &path("tls.crt"), "--tls-key", &path("tls.key"), "--htpasswd", &path("htpasswd")];
        let registry = Registry::start(&flags)?;
        let client = Client::new(Endpoint {
            ca_pem: authority.into_bytes(),
            public_roots: false,
            credentials: Credentials::Basic { username: NAME.into(), password: PASSWORD.into() },
            ..Endpoint::new(format!("https://{}", registry.host))
        });
        Some(Self { home, cosign, registry, client: client.unwrap() })
    }

    /// `HOST/PATH` of the registry.
    pub(crate) fn image(&self, path: &str) -> String {
        format!("{}/{path}", self.registry.host)
    }

    /// Pushes an image that holds `text`.
    pub(crate) async fn push(&self, repository: &str, tag: &str, text: &str) -> Digest {
        push(&self.client, repository, tag, text).await
    }

    /// Writes a file below the home folder; `HOST` stands for the registry.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let file = self.home.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text.replace("HOST", &self.registry.host)).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.home.path().join(name)).unwrap()
    }

    /// Makes the key pair `NAME.key`, `NAME.pub`.
    pub(crate) fn key(&self, name: &str) {
        self.cosign(&["generate-key-pair", "--output-key-prefix", name]);
    }

    /// Signs an image with the key `NAME.key`, with more flags of cosign.
    pub(crate) fn sign(&self, key: &str, repository: &str, digest: &Digest, flags: &[&str]) {
        let (key, image) = (format!("--key={key}.key"), self.image(&format!("{repository}@{digest}")));
        let offline =
            ["sign", "--yes", "--allow-http-registry", "--use-signing-config=false", "--tlog-upload=false"];
        self.cosign(&[&offline, flags, &[&key, &image]].concat());
    }

    /// Attests the content of a file about an image.
    pub(crate) fn attest(&self, key: &str, repository: &str, digest: &Digest, kind: &str, file: &str) {
        let (key, image) = (format!("--key={key}.key"), self.image(&format!("{repository}@{digest}")));
        let (kind, file) = (format!("--type={kind}"), format!("--predicate={file}"));
        let offline =
            ["attest", "--yes", "--allow-http-registry", "--use-signing-config=false", "--tlog-upload=false"];
        self.cosign(&[&offline, [kind.as_str(), &file, &key, &image].as_slice()].concat());
    }

    /// Puts a shell script into the user's PATH.
    pub(crate) fn program(&self, name: &str, script: &str) {
        let folder = self.home.path().join("bin");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(folder.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// Runs cosign, which must succeed.
    pub(crate) fn cosign(&self, arguments: &[&str]) {
        let output = self.run(&mut Command::new(&self.cosign), arguments, "");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Logs in, as `docker login` would: the password goes to Docker's config.json.
    pub(crate) fn login(&self) {
        self.cosign(&["login", &self.registry.host, "--username", NAME, "--password", PASSWORD]);
    }

    /// Runs `kubectl berth`; returns what a person sees, with the registry under a name that stays.
    pub(crate) fn berth(&self, arguments: &[&str]) -> String {
        self.berth_reading("", arguments)
    }

    /// The same with something on standard input.
    pub(crate) fn berth_reading(&self, input: &str, arguments: &[&str]) -> String {
        let host = &self.registry.host;
        let arguments: Vec<_> = arguments.iter().map(|argument| argument.replace("HOST", host)).collect();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-berth"));
        let output = self.run(&mut command, &arguments, &input.replace("HOST", host));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(host, HOST);
        let code = output.status.code().unwrap();
        format!("{}{}exit code {code}\n", text(&output.stdout), text(&output.stderr))
    }

    fn run(&self, command: &mut Command, arguments: &[&str], input: &str) -> Output {
        use std::io::Write as _;
        let home = self.home.path();
        let profiling = std::env::vars().filter(|(name, _)| name.starts_with("LLVM_PROFILE"));
        let mut child = command
            .args(arguments)
            .current_dir(home)
            .env_clear()
            .envs(profiling)
            .env("HOME", home)
            .env("PATH", format!("{}:/usr/bin:/bin", home.join("bin").display()))
            .env("DOCKER_CONFIG", home.join("docker"))
            // Where there is an authority of its own, cosign is to trust it.
            .envs(Some(home.join("ca.crt")).filter(|file| file.is_file()).map(|file| ("SSL_CERT_FILE", file)))
            .env("COSIGN_PASSWORD", "")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Whoever does not read closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }
}

/// The program, or none after saying why the caller passes by.
fn cosign() -> Option<PathBuf> {
    let program = std::env::var_os("BERTH_TOOL_COSIGN").map(PathBuf::from);
    if program.is_none() {
        println!("skipped: BERTH_TOOL_COSIGN does not name a program");
    }
    program
}

/// Writes `ca.crt`, and a certificate for the loopback address by it: `tls.crt`, `tls.key`. Returns the first.
fn authority(write: &impl Fn(&str, &str)) -> String {
    let mut parameters = CertificateParams::new([]).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = parameters.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(parameters, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    for (name, text) in [("ca.crt", &pem), ("tls.crt", &leaf.pem()), ("tls.key", &key.serialize_pem())] {
        write(name, text);
    }
    pem
}
