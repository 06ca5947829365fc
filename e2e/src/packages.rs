//! The programs that come with the machine: containerd, etcd, the network plugins. Looked for first;
//! installed as Debian packages only when one is missing.

use std::path::Path;
use std::process::Command;

use crate::command::{self, CommandError};

/// A file that must exist (a bare name is looked for in PATH), and the package that brings it.
const NEEDED: &[(&str, &str)] = &[
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
];

/// Packages whose installation would start a service that the cluster brings up by itself.
const SERVICES: &[&str] = &["containerd", "etcd"];

/// Why the machine cannot run the cluster.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// Namespaces, mounts and cgroups need root.
    #[error("the cluster needs root: run it in a throw-away machine or container as root")]
    NotRoot,
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

/// Makes sure that every program of the machine that the cluster needs is there.
pub fn ensure() -> Result<(), PackageError> {
    if !rustix::process::geteuid().is_root() {
        return Err(PackageError::NotRoot);
    }
    let mut missing: Vec<&str> =
        NEEDED.iter().filter(|(file, _)| find(file).is_none()).map(|(_, package)| *package).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    if find("apt-get").is_none() {
        return Err(PackageError::NotDebian { missing: missing.join(" ") });
    }
    eprintln!("installing {}", missing.join(" "));
    if Path::new("/run/systemd/system").exists() {
        command::run(Command::new("systemctl").arg("mask").args(SERVICES))?;
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
