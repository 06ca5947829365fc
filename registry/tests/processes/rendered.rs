//! R-STO-1, R-OPR-1: the real server begins with what the operator renders for each kind of storage. That is read from the
//! snapshots of the operator's tests, so neither side knows the other. Only the paths, the address and the bucket's
//! endpoint are another's here, and there is no API server whose tokens could be taken.

use std::path::Path;

use rstest::rstest;
use serde_json::Value;
use tempfile::TempDir;

use crate::Test;
use crate::support::authority::{Authority, write};
use crate::support::process::{eventually, free_port};
use crate::support::s3::S3;
use crate::support::server::{Options, htpasswd};

/// A key file of Google's form, for a service that asks for no proof.
const GOOGLE: &str = r#"{"client_email":"","private_key":"","private_key_id":"","disable_oauth":true}"#;

/// What the operator's tests have written down of a server on this storage.
fn rendered(storage: &str) -> Value {
    let file = format!("berth_operator_core__registry__tests__clouds__begins_{storage}.snap");
    let folder = "../operator/core/src/registry/tests/snapshots";
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(file))
        .expect("the snapshot is there");
    let content = text.splitn(3, "---\n").nth(2).expect("a snapshot has a head");
    serde_yaml::from_str(content).expect("the snapshot is YAML")
}

/// Puts the files of the mounts below a directory, as Kubernetes would.
fn mount(root: &Path, authority: &Authority) {
    let file = |path: &str, content: &str| {
        let path = root.join("etc").join(path);
        std::fs::create_dir_all(path.parent().expect("it has a folder")).expect("a directory can be made");
        std::fs::write(path, content).expect("a file can be written");
    };
    let (certificate, key, _) = authority.leaf();
    file("ca/ca.crt", &authority.pem);
    file("store-ca/ca.crt", &authority.pem);
    file("store-key/credentials.json", GOOGLE);
    file("events/token", "t");
    file("users/htpasswd", &htpasswd("anna", "secret"));
    file("config/.keep", "");
    file("tls/.keep", "");
    write(&root.join("etc/tls"), &certificate, &key);
    std::fs::create_dir(root.join("data")).expect("a directory can be made");
}

/// The options of a server that is given what was rendered, below a directory.
fn options(storage: &str, root: &Path, port: u16) -> Options {
    let given = rendered(storage);
    let here = |text: &str| {
        let text = text.replace("/etc/berth", &root.join("etc").display().to_string());
        text.replace("/var/lib/berth", &root.join("data").display().to_string())
    };
    let arguments: Vec<_> =
        given["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let ["serve", "--config", config] = arguments[..] else { panic!("other arguments: {arguments:?}") };
    let text = here(given["berth.yaml"].as_str().expect("the file is text"));
    let mut yaml: serde_yaml::Mapping = serde_yaml::from_str(&text).expect("the file is YAML");
    yaml.insert("listen".into(), "127.0.0.1:0".into());
    yaml.remove("serviceAccounts");
    let config = here(config);
    std::fs::write(&config, serde_yaml::to_string(&yaml).expect("YAML is YAML"))
        .expect("a file can be written");
    let variables = given["env"].as_array().into_iter().flatten();
    variables.fold(Options::default().flag("--config", config), |options, variable| {
        let name = variable["name"].as_str().expect("a variable has a name");
        // What comes from a Secret is in base64, as Azure's keys are.
        let value = variable["value"].as_str().unwrap_or("bm90LXJlYWw=");
        let value = match value.split_once("://") {
            Some((scheme, rest)) => {
                let path = rest.split_once('/').map_or(String::new(), |(_, path)| format!("/{path}"));
                format!("{scheme}://127.0.0.1:{port}{path}")
            }
            None => here(value),
        };
        options.variable(name, &value)
    })
}

#[rstest]
#[case::volume("volume")]
#[case::memory("memory")]
#[case::s3("s3")]
#[tokio::test]
async fn a_server_becomes_ready(#[case] storage: &str) -> Test {
    let (root, authority) = (TempDir::new().expect("a directory can be made"), Authority::new());
    mount(root.path(), &authority);
    let options = options(storage, root.path(), free_port());
    if storage == "s3" {
        let Some(s3) = S3::start().await else { return Ok(()) };
        s3.create_bucket("team-a");
        let (_server, target) = authority.start(&s3.at(options)).await;
        target.login("anna", "secret").get("/v2/").await?.status(&[200])?;
    } else {
        let (_server, target) = authority.start(&options).await;
        target.get("/v2/").await?.status(&[200, 401])?;
    }
    Ok(())
}

/// What is asked for is understood, and the bucket is looked for where the operator says; nobody is there.
#[rstest]
#[case::s3("s3")]
#[case::gcs("gcs")]
#[case::azure("azure")]
#[tokio::test]
async fn a_server_looks_for_its_bucket(#[case] storage: &str) -> Test {
    let (root, authority) = (TempDir::new().expect("a directory can be made"), Authority::new());
    mount(root.path(), &authority);
    let port = free_port();
    let server = options(storage, root.path(), port).start_unready().await;
    let target = authority.target(&server);
    eventually("readiness says whom it looked for", || async {
        let said = target.get("/readyz").await.ok().and_then(|reply| reply.json().ok());
        said.is_some_and(|said| {
            let message = said["message"].as_str().unwrap_or_default();
            said["reason"] == "StoreUnreachable" && message.contains(&format!("127.0.0.1:{port}"))
        })
    })
    .await;
    Ok(())
}
