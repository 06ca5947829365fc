//! Buckets that are not S3: Azure on its emulator (`BERTH_TOOL_AZURITE` names the program `azurite-blob`), Google's on a
//! double that does what the documentation of its two APIs says. S3 on a real server is in `store/conformance.rs`.

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use rstest::rstest;

use crate::store::{StoreOptions, conformance::conforms, from_url, read};

mod google;

/// The account and key that every emulator of Azure knows.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn azurite() -> Option<(Emulator, String)> {
    let tool = std::env::var_os("BERTH_TOOL_AZURITE")?;
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let port = address.port().to_string();
    let process = Command::new(tool)
        .args(["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"])
        .args(["--blobHost", "127.0.0.1", "--blobPort", &port])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let emulator = Emulator(process);
    let started = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(started.elapsed() < Duration::from_mins(1), "azurite does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Some((emulator, format!("http://{address}")))
}

/// Neither `object_store` nor the emulator's command line makes a container.
async fn create_container(endpoint: &str, name: &str) {
    let date = Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let signed = format!(
        "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:2021-08-06\n/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64_STANDARD.decode(KEY).unwrap());
    let signature = BASE64_STANDARD.encode(hmac::sign(&key, signed.as_bytes()));
    let answer = reqwest::Client::new()
        .put(format!("{endpoint}/{ACCOUNT}/{name}?restype=container"))
        .header("x-ms-date", date)
        .header("x-ms-version", "2021-08-06")
        .header("authorization", format!("SharedKey {ACCOUNT}:{signature}"))
        .header("content-length", "0")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
}

/// A store is configured by the environment, which a test must not change: so each question is put to a child process
/// of this test binary, which runs `child` alone.
fn ask(variables: &[(&str, &str)], question: &str) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["store::object::tests::child", "--exact", "--ignored", "--nocapture"])
        .envs(variables.iter().copied())
        .env("BERTH_TEST_QUESTION", question)
        .status()
        .unwrap();
    assert!(status.success(), "{question}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure() {
    // R-STO-1
    let Some((emulator, endpoint)) = azurite() else { return };
    create_container(&endpoint, "images").await;
    let variables = [("AZURE_STORAGE_USE_EMULATOR", "true"), ("AZURITE_BLOB_STORAGE_URL", &endpoint)];
    ask(&variables, "conforms az://devstoreaccount1/images/some/prefix");
    ask(&variables, "engine az://devstoreaccount1/images/engine");
    ask(&variables, "presigned az://devstoreaccount1/images/presigned");
    ask(&variables, "BucketNotFound az://devstoreaccount1/none");
    drop(emulator);
    ask(&variables, "StoreUnreachable az://devstoreaccount1/images");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn google() {
    // R-STO-1
    let endpoint = google::serve("images").await;
    let variables = [
        ("GOOGLE_BASE_URL", endpoint.as_str()),
        ("GOOGLE_ALLOW_HTTP", "true"),
        ("GOOGLE_SERVICE_ACCOUNT_KEY", google::SERVICE_ACCOUNT),
    ];
    ask(&variables, "conforms gs://images/some/prefix");
    ask(&variables, "engine gs://images/engine");
    ask(&variables, "BucketNotFound gs://none");
}

#[rstest]
#[case("gs://", "names no bucket")]
#[case("gs:///prefix", "names no bucket")]
#[case("az://account", "names no container")]
#[case("az:///container", "names no account")]
#[case("az://account//prefix", "names no container")]
#[case("gcs://bucket", "not understood")]
#[case("azure://account/container", "not understood")]
fn urls_that_name_no_bucket(#[case] url: &str, #[case] says: &str) {
    let error = from_url(url, &StoreOptions::default()).unwrap_err().to_string();
    assert!(error.contains(says), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "run by the others with an environment of its own"]
async fn child() {
    let question = std::env::var("BERTH_TEST_QUESTION").unwrap_or_default();
    let (question, url) = question.split_once(' ').unwrap();
    let store = from_url(url, &StoreOptions::default()).unwrap();
    match question {
        "conforms" => conforms(store).await,
        "engine" => crate::engine::tests::on_any_store(store).await,
        "presigned" => crate::store::conformance::presigned(store).await,
        reason => {
            assert_eq!(read(store.as_ref(), "x").await.unwrap_err().reason(), reason);
            assert_eq!(store.list("", None, 1).await.unwrap_err().reason(), reason);
        }
    }
}
