//! The Go programs that tests and demo run: Kubernetes itself, and clients and servers to try against.
//! Each folder of `tools/` is a module that pins its versions; its programs are built once into a cache
//! outside the checkout, under a name that changes with the module's files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::command;
use crate::digest::sha256;
use crate::interrupt::{self, Started};
use crate::release::own_folder;

/// The modules, and the programs that each one brings: name in this crate, file in the cache.
const MODULES: &[(&str, &[(&str, &str)])] = &[
    (
        "kube",
        &[
            ("kube-apiserver", "kube-apiserver"),
            ("kube-controller-manager", "kube-controller-manager"),
            ("kube-scheduler", "kube-scheduler"),
            ("kube-proxy", "kube-proxy"),
            ("kubelet", "kubelet"),
            ("kubectl", "kubectl"),
            ("coredns", "dns"),
            ("helm", "helm"),
            ("crane", "crane"),
        ],
    ),
    ("versitygw", &[("versitygw", "versitygw")]),
    ("distribution", &[("distribution", "registry")]),
    ("cosign", &[("cosign", "cosign")]),
    ("notation", &[("notation", "notation")]),
    ("regctl", &[("regctl", "regctl")]),
    ("oras", &[("oras", "oras")]),
    (PEER, &[("policy-controller", "webhook")]),
];

/// Only `bench-admission` runs it, so nothing else waits for its build.
const PEER: &str = "policy-controller";

/// The names that the binary `kube` answers to.
const KUBE_NAMES: &[&str] =
    &["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"];

/// How often a long build says that it is still at work.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// Why a program cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// No Go compiler.
    #[error("cannot start `go`: {0}; install Go 1.26 or newer")]
    NoGo(io::Error),
    /// The build failed; its output is on the terminal.
    #[error("building the Go module tools/{0} failed: see the compiler's messages above")]
    Build(String),
    /// A file of the module or the cache could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The cache holds no such program.
    #[error("no tool is called {0}")]
    Unknown(String),
}

/// The built programs, by name.
#[derive(Debug, Clone)]
pub struct Tools {
    programs: BTreeMap<&'static str, PathBuf>,
}

impl Tools {
    /// Finds every program of tests and demo, building what is missing. The first time this takes many minutes.
    pub fn ensure() -> Result<Self, ToolError> {
        Self::ensure_of(|module| module != PEER)
    }

    /// The same for the modules that `wanted` picks by their names.
    pub fn ensure_of(wanted: impl Fn(&str) -> bool) -> Result<Self, ToolError> {
        let sources = own_folder().join("tools");
        let mut programs = BTreeMap::new();
        for (module, names) in MODULES.iter().filter(|(module, _)| wanted(module)) {
            let built = ensure_module(&sources.join(module), module)?;
            programs.extend(names.iter().map(|(name, file)| (*name, built.join(file))));
        }
        Ok(Self { programs })
    }

    /// The path of one program.
    pub fn path(&self, program: &str) -> Result<&Path, ToolError> {
        self.programs.get(program).map(PathBuf::as_path).ok_or_else(|| ToolError::Unknown(program.into()))
    }

    /// Every program with its path, in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        self.programs.iter().map(|(name, path)| (*name, path.as_path()))
    }

    /// The variables that tell the process tests where the programs are: `BERTH_TOOL_CRANE` and so on.
    pub fn environment(&self) -> impl Iterator<Item = (String, OsString)> {
        self.iter().map(|(name, path)| (variable(name), path.as_os_str().to_owned()))
    }
}

/// The variable that tells the process tests where a program is.
pub(crate) fn variable(program: &str) -> String {
    format!("BERTH_TOOL_{}", program.to_uppercase().replace('-', "_"))
}

/// The folder for everything that this crate keeps between runs.
pub fn cache() -> PathBuf {
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("berth")
}

fn ensure_module(source: &Path, module: &str) -> Result<PathBuf, ToolError> {
    let name = format!("{module}-{}", fingerprint(source)?);
    let built = cache().join("tools").join(&name);
    if built.is_dir() {
        return Ok(built);
    }
    // Built beside its place and moved there whole, so that an interrupted build leaves nothing that looks done.
    let half = cache().join("tools").join(format!(".{name}.{}", std::process::id()));
    remove_half_built();
    fs::create_dir_all(&half).map_err(|source| ToolError::Io { path: half.clone(), source })?;
    build(source, module, &half)?;
    if module == "kube" {
        for name in KUBE_NAMES {
            let link = half.join(name);
            symlink("kube", &link).map_err(|source| ToolError::Io { path: link, source })?;
        }
    }
    match fs::rename(&half, &built) {
        Err(source) if !built.is_dir() => Err(ToolError::Io { path: built, source }),
        Err(_) => {
            // Another run was faster: its programs are the same.
            let _ = fs::remove_dir_all(&half);
            Ok(built)
        }
        Ok(()) => Ok(built),
    }
}

/// Removes what interrupted builds have left. Their folders end in the number of a process that is gone.
fn remove_half_built() {
    for entry in fs::read_dir(cache().join("tools")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let builder = name.strip_prefix('.').and_then(|name| name.rsplit_once('.'));
        if builder.is_some_and(|(_, pid)| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn build(source: &Path, module: &str, into: &Path) -> Result<(), ToolError> {
    let flags =
        fs::read_to_string(source.join("ldflags")).unwrap_or_else(|_| "-s -w".into()).replace('\n', " ");
    let mut go = Command::new("go");
    go.args(["build", "-trimpath", "-buildvcs=false", "-ldflags", flags.trim(), "-o"])
        .arg(into)
        .arg("tool")
        .current_dir(source)
        .env("CGO_ENABLED", "0")
        .process_group(0)
        .stdin(Stdio::null());
    if source.join("cmd").is_dir() {
        go.arg("./cmd/...");
    }
    eprintln!("building the Go programs of tools/{module}, once: minutes, for kube about ten");
    let start = Instant::now();
    let mut next = SIGN_OF_LIFE;
    let mut child = go.spawn().map_err(ToolError::NoGo)?;
    let _guard = interrupt::remember(Started::Group(child.id()));
    let io_error = |error| ToolError::Io { path: command::describe(&go).into(), source: error };
    loop {
        if let Some(status) = child.try_wait().map_err(io_error)? {
            eprintln!("built tools/{module} in {} s", start.elapsed().as_secs());
            return if status.success() { Ok(()) } else { Err(ToolError::Build(module.into())) };
        }
        if start.elapsed() > next {
            eprintln!("  still building tools/{module}: {} s", start.elapsed().as_secs());
            next += SIGN_OF_LIFE;
        }
        sleep(Duration::from_millis(100));
    }
}

/// A short hash of every file of a module, by name and content.
fn fingerprint(module: &Path) -> Result<String, ToolError> {
    let mut lines = String::new();
    for file in files(module)? {
        let content =
            fs::read(module.join(&file)).map_err(|source| ToolError::Io { path: file.clone(), source })?;
        let _ = writeln!(lines, "{}  ./{}", sha256(content), file.display());
    }
    Ok(sha256(lines)[..16].into())
}

/// Every file under a folder, relative to it, sorted by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>, ToolError> {
    fn walk(folder: &Path, prefix: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = prefix.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                walk(&entry.path(), &name, found)?;
            } else {
                found.push(name);
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(folder, Path::new(""), &mut found)
        .map_err(|source| ToolError::Io { path: folder.to_owned(), source })?;
    found.sort_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_built_again_when_a_file_changes_and_only_then() {
        let module = tempfile::tempdir().unwrap();
        fs::create_dir(module.path().join("cmd")).unwrap();
        fs::write(module.path().join("go.mod"), "module a").unwrap();
        fs::write(module.path().join("cmd/main.go"), "package main").unwrap();
        let before = fingerprint(module.path()).unwrap();
        assert_eq!(fingerprint(module.path()).unwrap(), before);
        fs::write(module.path().join("cmd/main.go"), "package other").unwrap();
        assert_ne!(fingerprint(module.path()).unwrap(), before);
    }

    #[test]
    fn every_module_names_its_versions() {
        for (module, _) in MODULES {
            let folder = own_folder().join("tools").join(module);
            assert!(folder.join("go.mod").is_file() && folder.join("go.sum").is_file(), "{module}");
        }
    }
}
