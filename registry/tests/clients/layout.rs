//! An image as an OCI layout on disk: what a client pushes, and what it must bring back.

use std::path::Path;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::content::{Blob, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, sha256, unique};
use crate::support::http::{Failure, ensure};

/// Writes the layout of a small image that can be unpacked, tagged `v1`, and returns its digest.
pub(crate) async fn write(folder: &Path) -> Result<String, Failure> {
    std::fs::create_dir_all(folder).expect("a directory can be made");
    std::fs::write(folder.join("hello"), unique().to_string()).expect("a file can be written");
    let tar = output(Command::new("tar").args(["--create", "hello"]).current_dir(folder)).await;
    std::fs::write(folder.join("layer.tar"), &tar).expect("a file can be written");
    // Compressed: some clients compress what is not, and push another image than they were given.
    let layer = output(Command::new("gzip").args(["--stdout", "layer.tar"]).current_dir(folder)).await;
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [sha256(&tar)]},
    });
    let layer = Blob::new(layer, OCI_LAYER);
    let image = Manifest::image_of(Blob::new(config.to_string(), OCI_CONFIG), vec![layer]);
    let manifest = Blob::new(image.bytes(), OCI_MANIFEST);

    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("a directory can be made");
    for blob in image.blobs.iter().chain([&manifest]) {
        let name = blob.digest.trim_start_matches("sha256:");
        std::fs::write(blobs.join(name), &blob.bytes).expect("a file can be written");
    }
    let mut descriptor = manifest.descriptor();
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": "v1"});
    let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
    for (name, content) in [("oci-layout", json!({"imageLayoutVersion": "1.0.0"})), ("index.json", index)] {
        std::fs::write(folder.join(name), content.to_string()).expect("a file can be written");
    }
    Ok(manifest.digest)
}

async fn output(command: &mut Command) -> Vec<u8> {
    command.output().await.expect("tar and gzip can be started").stdout
}

/// Fails unless a client's layout holds exactly one image, this one, with every blob whole.
pub(crate) fn holds(folder: &Path, digest: &str) -> Result<(), Failure> {
    let read = |name: &str| {
        std::fs::read(folder.join(name))
            .map_err(|error| Failure(format!("{}/{name}: {error}", folder.display())))
    };
    let blob = |digest: &str| -> Result<Vec<u8>, Failure> {
        let bytes = read(&format!("blobs/{}", digest.replace(':', "/")))?;
        ensure!(sha256(&bytes) == digest, "{digest} came back changed");
        Ok(bytes)
    };
    let json = |bytes: &[u8]| -> Result<Value, Failure> {
        serde_json::from_slice(bytes).map_err(|error| Failure(format!("{}: {error}", folder.display())))
    };
    let index = json(&read("index.json")?)?;
    ensure!(index["manifests"][0]["digest"] == digest, "the layout holds {index} instead of {digest}");
    let manifest = json(&blob(digest)?)?;
    for part in [&manifest["config"], &manifest["layers"][0]] {
        blob(part["digest"].as_str().unwrap_or_default())?;
    }
    Ok(())
}
