//! The real server as a process, on a port that the system chooses, with content in memory.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use berth_client::Client;
use berth_registry_core::{Digest, Reference};
use serde_json::{Value, json};

/// A running server.
pub(crate) struct Registry {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
}

/// The server of this workspace: cargo puts it beside the plugin. None, after saying so, if it was not built.
fn program() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_BIN_EXE_kubectl-berth")).with_file_name("berth-registry");
    let program = beside.is_file().then_some(beside);
    if program.is_none() {
        println!("skipped: cargo build -p berth-registry");
    }
    program
}

impl Registry {
    /// A server that answers with these arguments; none if there is no program.
    pub(crate) fn start(arguments: &[&str]) -> Option<Self> {
        let mut child = Command::new(program()?)
            .args(["serve", "--listen", "127.0.0.1:0", "--store", "memory:"])
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let listening = |line: String| {
            let line: Value = serde_json::from_str(&line).ok()?;
            (line["message"] == "listening").then(|| line["address"].as_str().map(str::to_owned))?
        };
        let host = lines.by_ref().find_map(|line| listening(line.ok()?)).unwrap();
        // Read on, or the server would wait for room in the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { child, host })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Pushes an image that holds nothing but `text`, the same bytes each time.
pub(crate) async fn push(client: &Client, repository: &str, tag: &str, text: &str) -> Digest {
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    let repository = repository.parse().unwrap();
    let config = Digest::sha256(b"{}");
    client.put_blob(&repository, &config, b"{}".as_slice().into()).await.unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": [], "annotations": {"text": text},
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": config},
    });
    let manifest = manifest.to_string().into_bytes();
    let digest = Digest::sha256(&manifest);
    let reference = Reference::Tag(tag.parse().unwrap());
    client.put_manifest(&repository, &reference, MANIFEST, manifest.into()).await.unwrap();
    digest
}
