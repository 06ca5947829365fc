//! The servers that are compared, each with the settings that it is shipped with, on an empty folder or bucket.

use std::error::Error;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::cores::Cores;
use super::process::Process;
use super::table::Column;
use crate::tools::Tools;
use crate::{packages, s3};

/// The bucket of runs on S3.
const BUCKET: &str = "images";

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    /// This repository's server.
    Berth,
    /// CNCF distribution.
    Distribution,
    /// nginx with files at a registry's paths, written by `WebDAV`: a limit, no registry.
    Nginx,
}

/// Both registries.
pub(super) const REGISTRIES: &[Peer] = &[Peer::Berth, Peer::Distribution];
/// Everyone.
pub(super) const ALL: &[Peer] = &[Peer::Berth, Peer::Distribution, Peer::Nginx];

/// The programs, and the certificate that the servers show.
#[derive(Debug)]
pub(super) struct Programs {
    berth: PathBuf,
    distribution: PathBuf,
    versitygw: PathBuf,
    nginx: PathBuf,
    /// Where they keep things.
    folder: PathBuf,
}

/// A certificate for `127.0.0.1` on disk.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// How a server is started.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    /// Over TLS with this certificate.
    pub(super) tls: Option<&'a Identity>,
    /// In a bucket instead of a folder.
    pub(super) bucket: Option<&'a Bucket>,
}

/// Plain HTTP, a folder.
pub(super) const PLAIN: Setting<'_> = Setting { tls: None, bucket: None };

/// A running server with content of its own.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) process: Process,
    /// `http://127.0.0.1:PORT`
    pub(super) base: String,
    _folder: TempDir,
}

/// A running S3 server with an empty bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) process: Process,
    /// `http://127.0.0.1:PORT`
    pub(super) endpoint: String,
    _folder: TempDir,
}

impl Column for Peer {
    const ALL: &'static [Self] = ALL;
    const RATIOS: &'static [(Self, Self)] = &[(Self::Berth, Self::Distribution), (Self::Berth, Self::Nginx)];

    fn name(self) -> &'static str {
        match self {
            Self::Berth => "Berth",
            Self::Distribution => "distribution",
            Self::Nginx => "nginx",
        }
    }
}

impl Peer {
    /// What it answers well once it serves.
    pub(super) fn readiness(self) -> &'static str {
        if self == Self::Berth { "/readyz" } else { "/v2/" }
    }
}

impl Programs {
    pub(super) fn find(berth: PathBuf, tools: &Tools, folder: &Path) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            berth,
            distribution: tools.path("distribution")?.into(),
            versitygw: tools.path("versitygw")?.into(),
            nginx: packages::find("nginx").ok_or("nginx is not installed")?,
            folder: folder.into(),
        })
    }

    /// What `nginx -v` says.
    pub(super) fn nginx_version(&self) -> String {
        let output = Command::new(&self.nginx).arg("-v").output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stderr).trim().to_owned());
        text.ok().and_then(|text| Some(text.rsplit_once('/')?.1.to_owned())).unwrap_or_default()
    }

    /// Starts an S3 server beside the client.
    pub(super) fn bucket(&self, cores: &Cores) -> Result<Bucket, Box<dyn Error>> {
        let (folder, address) = (tempfile::tempdir_in(&self.folder)?, free_address()?);
        fs::create_dir(folder.path().join(BUCKET))?;
        let mut command = cores.for_client(&self.versitygw);
        clean(&mut command).env("ROOT_ACCESS_KEY", s3::ACCESS_KEY).env("ROOT_SECRET_KEY", s3::SECRET_KEY);
        command.args(["--port", &address, "--region", s3::REGION, "--quiet", "posix"]).arg(folder.path());
        let process = Process::start(&mut command)?;
        Ok(Bucket { process, endpoint: format!("http://{address}"), _folder: folder })
    }

    /// Starts a server on its core.
    pub(super) fn start(
        &self,
        cores: &Cores,
        peer: Peer,
        setting: Setting<'_>,
    ) -> Result<Server, Box<dyn Error>> {
        let (folder, address) = (tempfile::tempdir_in(&self.folder)?, free_address()?);
        let mut command = match peer {
            Peer::Berth => self.berth(cores, folder.path(), &address, setting),
            Peer::Distribution => self.distribution(cores, folder.path(), &address, setting)?,
            Peer::Nginx => self.nginx(cores, folder.path(), &address, setting)?,
        };
        let process = Process::start(&mut command)?;
        let scheme = if setting.tls.is_some() { "https" } else { "http" };
        Ok(Server { process, base: format!("{scheme}://{address}"), _folder: folder })
    }

    fn berth(&self, cores: &Cores, folder: &Path, address: &str, setting: Setting<'_>) -> Command {
        let mut command = cores.for_server(&self.berth);
        clean(&mut command).args(["serve", "--anonymous=write", "--listen", address, "--store"]);
        if let Some(bucket) = setting.bucket {
            command.arg(format!("s3://{BUCKET}/berth"));
            command.env("AWS_ENDPOINT_URL", &bucket.endpoint).env("AWS_ALLOW_HTTP", "true");
            command.env("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY);
            command.env("AWS_REGION", s3::REGION);
        } else {
            command.arg(format!("file://{}", folder.display()));
        }
        match setting.tls {
            Some(tls) => command.arg("--tls-cert").arg(&tls.certificate).arg("--tls-key").arg(&tls.key),
            None => command.arg("--plain-http"),
        };
        command
    }

    /// The configuration of its image, with another place for content.
    fn distribution(
        &self,
        cores: &Cores,
        folder: &Path,
        address: &str,
        setting: Setting<'_>,
    ) -> Result<Command, Box<dyn Error>> {
        let (access, secret, region) = (s3::ACCESS_KEY, s3::SECRET_KEY, s3::REGION);
        let driver = setting.bucket.map_or_else(
            || format!("filesystem: {{rootdirectory: '{}'}}", folder.join("content").display()),
            |bucket| {
                format!(
                    "s3: {{regionendpoint: '{}', forcepathstyle: true, secure: false, region: {region}, \
                     bucket: {BUCKET}, rootdirectory: /distribution, accesskey: {access}, secretkey: {secret}}}",
                    bucket.endpoint
                )
            },
        );
        let tls = setting.tls.map_or_else(String::new, |tls| {
            format!(", tls: {{certificate: '{}', key: '{}'}}", tls.certificate.display(), tls.key.display())
        });
        let config = format!(
            "version: 0.1\n\
             log: {{fields: {{service: registry}}}}\n\
             storage: {{cache: {{blobdescriptor: inmemory}}, {driver}}}\n\
             http: {{addr: '{address}', headers: {{X-Content-Type-Options: [nosniff]}}{tls}}}\n\
             health: {{storagedriver: {{enabled: true, interval: 10s, threshold: 3}}}}\n"
        );
        let file = folder.join("config.yml");
        fs::write(&file, config)?;
        let mut command = cores.for_server(&self.distribution);
        clean(&mut command).env("OTEL_TRACES_EXPORTER", "none").arg("serve").arg(file);
        Ok(command)
    }

    /// One process that does nothing but send and take files. It writes no log, unlike the registries.
    fn nginx(
        &self,
        cores: &Cores,
        folder: &Path,
        address: &str,
        setting: Setting<'_>,
    ) -> Result<Command, Box<dyn Error>> {
        let (ssl, certificate) = setting.tls.map_or_else(Default::default, |tls| {
            let (certificate, key) = (tls.certificate.display(), tls.key.display());
            (" ssl", format!("ssl_certificate '{certificate}'; ssl_certificate_key '{key}';"))
        });
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|module| format!("{module}_temp_path {module};\n"))
            .concat();
        let config = format!(
            "daemon off;\nmaster_process off;\npid pid;\nevents {{}}\nhttp {{\n\
             {temporary}access_log off;\nsendfile on;\ntcp_nopush on;\nkeepalive_requests 1000000000;\n\
             client_max_body_size 0;\n\
             server {{\nlisten {address}{ssl};\n{certificate}\nroot content;\n\
             location / {{ dav_methods PUT; create_full_put_path on; }}\n\
             location = /v2/ {{ return 200; }}\n}}\n}}\n"
        );
        fs::create_dir(folder.join("content"))?;
        fs::write(folder.join("nginx.conf"), config)?;
        let mut command = cores.for_server(&self.nginx);
        clean(&mut command).arg("-p").arg(folder).args(["-c", "nginx.conf", "-e", "stderr"]);
        Ok(command)
    }
}

/// No variable of the caller changes a setting.
fn clean(command: &mut Command) -> &mut Command {
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default())
}

fn free_address() -> std::io::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
