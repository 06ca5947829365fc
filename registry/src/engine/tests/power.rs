//! The engine on a directory whose power fails after any step.

use std::collections::BTreeMap;

use super::*;
use crate::store::power::{Loss, Recorder, reopen, scratch};

/// A manifest over blobs that are in the repository.
fn manifest(config: &Bytes, layers: &[&Bytes]) -> Bytes {
    let descriptor = |bytes: &Bytes| {
        format!(
            r#"{{"mediaType":"application/octet-stream","digest":"{}","size":{}}}"#,
            Digest::sha256(bytes),
            bytes.len()
        )
    };
    let layers: Vec<_> = layers.iter().map(|layer| descriptor(layer)).collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{},"layers":[{}]}}"#,
        descriptor(config),
        layers.join(",")
    )
    .into()
}

/// Pushes images under one tag, and deletes the last.
async fn work(engine: Engine, disk: Arc<Recorder>, task: usize) {
    let name = format!("task-{task}");
    let (repo, subject) = (repo(&name), format!("{name}:latest"));
    let shared = Bytes::from("a layer that everybody pushes ".repeat(40));
    for round in 0..2 {
        let config = Bytes::from(format!("config {task} {round}"));
        for blob in [&config, &shared] {
            let (subject, value) = (format!("{name}@{}", Digest::sha256(blob)), Some("here".to_owned()));
            disk.begin(&subject, value.clone());
            push_blob(&engine, &repo, blob.clone()).await;
            disk.acknowledge(&subject, value);
        }
        let bytes = manifest(&config, &[&shared]);
        let digest = Some(Digest::sha256(&bytes).to_string());
        disk.begin(&subject, digest.clone());
        let options = PutOptions::default();
        engine.put_manifest(&repo, &tag("latest"), Some(OCI_MANIFEST), bytes, options).await.unwrap();
        disk.acknowledge(&subject, digest);
    }
    if task == 0 {
        disk.begin(&subject, None);
        let last = engine.get_manifest(&repo, &tag("latest")).await.unwrap().digest;
        engine.delete_manifest(&repo, &last).await.unwrap();
        disk.acknowledge(&subject, None);
    }
}

async fn pull(engine: &Engine, repo: &RepositoryName, manifest: &[u8]) {
    let manifest: serde_json::Value = serde_json::from_slice(manifest).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    for descriptor in layers.iter().chain([&manifest["config"]]) {
        let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
        assert_eq!(Digest::sha256(&read_all(engine, repo, &digest).await), digest);
    }
}

async fn check(engine: &Engine, allowed: &BTreeMap<String, Vec<Option<String>>>, at: &str) {
    for (subject, values) in allowed {
        if let Some((name, digest)) = subject.split_once('@') {
            let (repo, digest) = (repo(name), digest.parse::<Digest>().unwrap());
            match engine.read_blob(&repo, &digest, None).await {
                Ok(_) => assert_eq!(Digest::sha256(&read_all(engine, &repo, &digest).await), digest, "{at}"),
                Err(error) => assert!(values.contains(&None), "{at}: {subject}: {error}"),
            }
            continue;
        }
        let (name, reference) = subject.split_once(':').unwrap();
        let found = match engine.get_manifest(&repo(name), &tag(reference)).await {
            Ok(found) => {
                pull(engine, &repo(name), &found.bytes).await;
                Some(found.digest.to_string())
            }
            Err(EngineError::ManifestUnknown(_)) => None,
            Err(error) => panic!("{at}: {subject}: {error}"),
        };
        // A deletion that was begun may have made the manifest unknown before its tag is gone.
        assert!(values.contains(&found), "{at}: {subject} is {found:?}, not one of {values:?}");
    }
}

/// After a power loss at any point the engine opens, and what was acknowledged can be pulled whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn acknowledged_images_outlive_a_power_loss_at_any_point() {
    let root = scratch();
    let disk = Recorder::new(root.path());
    let engine = open(&(Arc::new(disk.store()) as Arc<dyn Store>)).await;
    let tasks: Vec<_> = (0..3).map(|task| tokio::spawn(work(engine.clone(), disk.clone(), task))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    let cut = |from: usize| {
        let disk = disk.clone();
        async move {
            for step in (from..=disk.steps()).step_by(2) {
                let loss = Loss::after(step / 2)[step % 3];
                let (image, allowed) = disk.cut(step, loss);
                let found = image.directory();
                let engine = open(&(Arc::new(reopen(found.path())) as Arc<dyn Store>)).await;
                check(&engine, &allowed, &format!("{loss:?} after step {step}")).await;
            }
        }
    };
    for half in [tokio::spawn(cut(0)), tokio::spawn(cut(1))] {
        half.await.unwrap();
    }
}
