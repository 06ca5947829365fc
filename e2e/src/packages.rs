//! The programs that come with the machine: containerd, etcd, the network plugins, clients, nginx. Looked for
//! first; installed as Debian packages only when one is missing.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use crate::command::{self, CommandError};
use crate::tools;

/// A file that must exist (a bare name is looked for in PATH), and the package that brings it.
pub type Needed = (&'static str, &'static str);

/// What the cluster is made of.
const CLUSTER: &[Needed] = &[
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("etcd", "etcd-server"),
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("conntrack", "conntrack"),
    ("busybox", "busybox-static"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("/etc/ssl/certs/ca-certificates.crt", "ca-certificates"),
    ("curl", "curl"),
];

/// Clients of a registry, for the process tests.
pub const CLIENTS: &[Needed] = &[("skopeo", "skopeo"), ("podman", "podman")];

/// What the comparison with other servers takes.
pub const BENCH: &[Needed] =
    &[("nginx", "nginx"), ("wrk", "wrk"), ("taskset", "util-linux"), ("setpriv", "util-linux")];

/// What libFuzzer is compiled with.
pub const FUZZING: &[Needed] = &[("c++", "g++")];

/// Packages whose installation would start a service, and the service: whoever needs it here starts its own.
const SERVICES: &[Needed] = &[("containerd", "containerd"), ("etcd-server", "etcd"), ("nginx", "nginx")];

/// Why the machine cannot run the cluster.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// Namespaces, mounts and cgroups need root.
    #[error("the cluster needs root: run it in a throw-away machine or container as root")]
    NotRoot,
    /// apt-get needs root.
    #[error("missing here: {missing}; run this once as root, or install them by hand")]
    CannotInstall {
        /// The packages, separated by spaces.
        missing: String,
    },
    /// Not a Debian: the programs must come from elsewhere.
    #[error("missing here: {missing}; without apt-get, please install them by hand")]
    NotDebian {
        /// The packages by their Debian names, separated by spaces.
        missing: String,
    },
    /// apt-get or systemctl failed.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// Makes sure that a cluster can run here, and that these other programs are there.
pub fn ensure_cluster(others: &[Needed]) -> Result<(), PackageError> {
    if !rustix::process::geteuid().is_root() {
        return Err(PackageError::NotRoot);
    }
    ensure(&[CLUSTER, others].concat())
}

/// Makes sure that these programs are there; needs root only to install what is missing.
pub fn ensure(needed: &[Needed]) -> Result<(), PackageError> {
    let mut missing: Vec<&str> =
        needed.iter().filter(|(file, _)| find(file).is_none()).map(|(_, package)| *package).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        return Err(PackageError::CannotInstall { missing: missing.join(" ") });
    }
    if find("apt-get").is_none() {
        return Err(PackageError::NotDebian { missing: missing.join(" ") });
    }
    eprintln!("installing {}", missing.join(" "));
    let services = SERVICES.iter().filter(|(package, _)| missing.contains(package));
    for (_, service) in services.filter(|_| Path::new("/run/systemd/system").exists()) {
        command::run(Command::new("systemctl").args(["mask", service]))?;
    }
    command::run(Command::new("apt-get").args(["-qq", "update"]))?;
    command::run(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-qq", "--yes", "--no-install-recommends", "install"])
            .args(&missing),
    )?;
    Ok(())
}

/// The variables that tell the process tests where [`CLIENTS`] are, as [`tools::Tools::environment`] does for tools.
pub fn environment() -> impl Iterator<Item = (String, OsString)> {
    CLIENTS.iter().filter_map(|(name, _)| Some((tools::variable(name), find(name)?.into_os_string())))
}

/// The path of a program: as given if it names a folder, else from PATH or the system's own folders.
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    if program.contains('/') {
        return Some(program.into()).filter(|path: &std::path::PathBuf| path.exists());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
