//! What every store must do, run on every backend. A backend that passes carries the engine.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::join_all;

use super::{GetOptions, PutMode, Store, StoreError, collect, probe, read};

async fn keys(store: &dyn Store, prefix: &str, after: Option<&str>, limit: usize) -> (Vec<String>, bool) {
    let page = store.list(prefix, after, limit).await.unwrap();
    (page.entries.into_iter().map(|entry| entry.key).collect(), page.more)
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn is_not_found<T>(result: Result<T, StoreError>) -> bool {
    result.is_err_and(|error| matches!(error, StoreError::NotFound(_)))
}

fn is_precondition<T>(result: Result<T, StoreError>) -> bool {
    result.is_err_and(|error| matches!(error, StoreError::Precondition(_)))
}

/// Runs everything on an empty store.
pub(crate) async fn conforms(store: Arc<dyn Store>) {
    probe(store.as_ref(), "conformance").await.unwrap().unwrap();
    objects(store.as_ref()).await;
    conditions(store.as_ref()).await;
    ranges(store.as_ref()).await;
    listings(store.as_ref()).await;
    multipart(store.as_ref()).await;
    races(&store).await;
}

async fn objects(store: &dyn Store) {
    assert!(is_not_found(read(store, "o/none").await));
    assert!(is_not_found(store.head("o/none").await));
    store.delete("o/none").await.unwrap();
    let etag = store.put("o/a", bytes("one"), PutMode::Overwrite).await.unwrap();
    let (body, meta) = read(store, "o/a").await.unwrap();
    assert_eq!((body, meta.size, &meta.etag), (bytes("one"), 3, &etag));
    assert_eq!(store.head("o/a").await.unwrap().etag, etag);
    let unchanged = GetOptions { if_none_match: Some(etag.clone()), range: None };
    assert!(matches!(store.get("o/a", unchanged.clone()).await, Err(StoreError::NotModified(_))));
    // The same bytes again: a new version or the old one, but the old version's bytes stay right.
    store.put("o/a", bytes("two"), PutMode::Overwrite).await.unwrap();
    let object = store.get("o/a", unchanged).await.unwrap();
    assert_eq!(collect(object.body, 3).await.unwrap(), "two");
    store.put("o/empty", Bytes::new(), PutMode::Overwrite).await.unwrap();
    assert_eq!(read(store, "o/empty").await.unwrap().1.size, 0);
    // A key may be the beginning of another one, and hold what names may hold.
    for key in ["o/x!", "o/x!t/v1", "o/x/y!m/sha256:ab", "o/x-y_z.w!"] {
        store.put(key, bytes("k"), PutMode::Create).await.unwrap_or_else(|e| panic!("{key}: {e}"));
        assert_eq!(read(store, key).await.unwrap().0, "k");
        // A directory cannot hold a file and a directory of one name; no key of the layout asks for that.
        store.delete(key).await.unwrap();
    }
    store.delete("o/a").await.unwrap();
    assert!(is_not_found(store.head("o/a").await));
}

async fn conditions(store: &dyn Store) {
    let first = store.put("c/a", bytes("1"), PutMode::Create).await.unwrap();
    assert!(is_precondition(store.put("c/a", bytes("2"), PutMode::Create).await));
    let second = store.put("c/a", bytes("2"), PutMode::Update(first.clone())).await.unwrap();
    assert_ne!(first, second);
    assert!(is_precondition(store.put("c/a", bytes("3"), PutMode::Update(first.clone())).await));
    assert!(is_precondition(store.put("c/none", bytes("3"), PutMode::Update(first.clone())).await));
    assert_eq!(read(store, "c/a").await.unwrap().0, "2");
    assert!(is_precondition(store.delete_version("c/a", &first).await));
    store.delete_version("c/a", &second).await.unwrap();
    store.delete_version("c/a", &second).await.unwrap();
    store.put("c/a", bytes("4"), PutMode::Create).await.unwrap();
}

async fn ranges(store: &dyn Store) {
    let size = 300_000_usize;
    let body: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
    store.put("r/a", body.clone().into(), PutMode::Overwrite).await.unwrap();
    for range in [0..1, 0..size, 5..6, 1000..200_000, size - 1..size] {
        let wanted = range.start as u64..range.end as u64;
        let object = store.get("r/a", GetOptions { range: Some(wanted), if_none_match: None }).await.unwrap();
        assert_eq!(object.meta.size, size as u64, "the size is the object's");
        let read = collect(object.body, 0).await.unwrap();
        assert_eq!(read, body[range.clone()], "{range:?}");
    }
}

async fn listings(store: &dyn Store) {
    let sorted = ["l/a!", "l/a!t/1", "l/a-b!", "l/a.b!", "l/a/b!", "l/a/b!t/1", "l/a0!", "l/b!"];
    for key in sorted.iter().rev() {
        store.put(key, Bytes::new(), PutMode::Create).await.unwrap();
    }
    assert_eq!(keys(store, "l/", None, 100).await, (sorted.map(str::to_owned).to_vec(), false));
    let (below, more) = keys(store, "l/a!", None, 100).await;
    assert!((below == ["l/a!", "l/a!t/1"] || below == ["l/a!t/1"]) && !more, "{below:?}");
    assert_eq!(keys(store, "l/none", None, 100).await, (vec![], false));
    let (mut walked, mut after) = (Vec::new(), None::<String>);
    loop {
        let (page, more) = keys(store, "l/", after.as_deref(), 2).await;
        assert!(page.len() <= 2);
        after = page.last().cloned();
        walked.extend(page);
        if !more {
            break;
        }
    }
    assert_eq!(walked, keys(store, "l/", None, 100).await.0);
    assert_eq!(keys(store, "l/", Some("l/a.zzz"), 1).await, (vec!["l/a/b!".into()], true));
    assert_eq!(keys(store, "l/", Some("l/b!"), 1).await, (vec![], false));
    for i in 0..25 {
        store.put(&format!("m/t/{i:02}"), Bytes::new(), PutMode::Create).await.unwrap();
    }
    // A page may be short.
    let (mut page, mut more) = keys(store, "m/t/", Some("m/t/04"), 20).await;
    assert_eq!(page[0], "m/t/05");
    while more {
        let next = keys(store, "m/t/", page.last().map(String::as_str), 20).await;
        page.extend(next.0);
        more = next.1;
    }
    assert_eq!((page.len(), page[19].as_str()), (20, "m/t/24"));
    assert!(keys(store, "m/t/", None, 24).await.1);
}

async fn multipart(store: &dyn Store) {
    let size = store.part_size();
    let part = |byte: u8, size: usize| Bytes::from(vec![byte; size]);
    let id = store.create_multipart("p/a").await.unwrap();
    store.put_part("p/a", &id, 0, part(9, size)).await.unwrap();
    let first = store.put_part("p/a", &id, 0, part(1, size)).await.unwrap();
    store.put_part("p/a", &id, 1, part(9, 20)).await.unwrap();
    let second = store.put_part("p/a", &id, 1, part(2, 10)).await.unwrap();
    assert!(is_not_found(store.head("p/a").await), "nothing shows before the end");
    store.complete_multipart("p/a", &id, &[first.clone(), second.clone()]).await.unwrap();
    let (body, meta) = read(store, "p/a").await.unwrap();
    assert_eq!(meta.size, size as u64 + 10);
    assert!(body[..size].iter().all(|&b| b == 1) && body[size..].iter().all(|&b| b == 2));
    let again = store.complete_multipart("p/a", &id, &[first, second]).await;
    assert!(is_not_found(again.clone()) || again.is_ok(), "{again:?}");
    store.abort_multipart("p/a", &id).await.unwrap();
    assert_eq!(store.head("p/a").await.unwrap().size, size as u64 + 10);

    let id = store.create_multipart("p/b").await.unwrap();
    let old = store.put_part("p/b", &id, 0, part(1, 10)).await.unwrap();
    store.put_part("p/b", &id, 0, part(2, 10)).await.unwrap();
    if store.complete_multipart("p/b", &id, &[old]).await.is_ok() {
        assert_eq!(
            read(store, "p/b").await.unwrap().0,
            part(1, 10),
            "the new part must not pass for the old one"
        );
    }
    store.abort_multipart("p/b", &id).await.unwrap();
    let id = store.create_multipart("p/c").await.unwrap();
    store.put_part("p/c", &id, 0, part(1, 10)).await.unwrap();
    store.abort_multipart("p/c", &id).await.unwrap();
    // Where an upload has no identity of its own (Azure), a late part is dropped some day.
    let late = store.put_part("p/c", &id, 0, part(1, 10)).await;
    assert!(late.is_ok() || is_not_found(late));
    store.abort_multipart("p/c", &id).await.unwrap();
    assert!(is_not_found(store.head("p/c").await));
}

/// For stores with URLs: without credentials the URL gives the bytes, and ranges of them.
pub(crate) async fn presigned(store: Arc<dyn Store>) {
    let body = Bytes::from((0..100_000u32).map(|i| u8::try_from(i % 251).unwrap()).collect::<Vec<u8>>());
    store.put("d/a/x", body.clone(), PutMode::Create).await.unwrap();
    let url = store.presign("d/a/x", Duration::from_mins(1)).await.unwrap().unwrap();
    let client = reqwest::Client::new();
    let answer = client.get(&url).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.bytes().await.unwrap()), (200, body.clone()));
    let answer = client.get(&url).header("range", "bytes=500-999").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.bytes().await.unwrap()), (206, body.slice(500..1000)));
    let other = url.replace("/d/a/x", "/d/a/y");
    let status = client.get(&other).send().await.unwrap().status();
    assert!(status.is_client_error(), "a URL is for one object only: {status}");
}

async fn races(store: &Arc<dyn Store>) {
    const WRITERS: usize = 24;
    for round in 0..10 {
        let key = format!("x/{round}");
        let write = |mode: PutMode, i: usize| {
            let (store, key) = (Arc::clone(store), key.clone());
            async move { store.put(&key, format!("writer {i}").into(), mode).await.is_ok() }
        };
        let created = join_all((0..WRITERS).map(|i| write(PutMode::Create, i))).await;
        assert_eq!(created.iter().filter(|won| **won).count(), 1, "one writer creates");
        let etag = store.head(&key).await.unwrap().etag;
        let updated = join_all((0..WRITERS).map(|i| write(PutMode::Update(etag.clone()), WRITERS + i))).await;
        assert_eq!(updated.iter().filter(|won| **won).count(), 1, "one writer replaces a version");
        let winner = WRITERS + updated.iter().position(|won| *won).unwrap();
        assert_eq!(read(store.as_ref(), &key).await.unwrap().0, format!("writer {winner}"));
    }
}

mod backends {
    use super::*;
    use crate::store::{DirectoryStore, MemoryStore};

    #[tokio::test]
    async fn memory() {
        conforms(Arc::new(MemoryStore::default())).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn directory() {
        let root = tempfile::tempdir().unwrap();
        conforms(Arc::new(DirectoryStore::open(root.path()).unwrap())).await;
    }

    #[tokio::test]
    async fn a_second_process_is_kept_out_of_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let first = DirectoryStore::open(root.path()).unwrap();
        first.put("a", bytes("1"), PutMode::Create).await.unwrap();
        let error = DirectoryStore::open(root.path()).unwrap_err();
        assert!(matches!(error, StoreError::Locked(_)) && error.to_string().contains("in use"), "{error}");
        drop(first);
        let again = DirectoryStore::open(root.path()).unwrap();
        assert_eq!(read(&again, "a").await.unwrap().0, "1");
    }

    #[tokio::test]
    async fn a_multipart_upload_outlives_the_process() {
        let root = tempfile::tempdir().unwrap();
        let (id, etag) = {
            let store = DirectoryStore::open(root.path()).unwrap();
            let id = store.create_multipart("a").await.unwrap();
            let etag = store.put_part("a", &id, 0, vec![1; store.part_size()].into()).await.unwrap();
            (id, etag)
        };
        let store = DirectoryStore::open(root.path()).unwrap();
        let last = store.put_part("a", &id, 1, bytes("end")).await.unwrap();
        store.complete_multipart("a", &id, &[etag, last]).await.unwrap();
        assert_eq!(store.head("a").await.unwrap().size, store.part_size() as u64 + 3);
    }

    #[tokio::test]
    async fn hostile_keys_do_not_leave_the_directory() {
        let root = tempfile::tempdir().unwrap();
        let store = DirectoryStore::open(root.path().join("store")).unwrap();
        for key in ["../x", "a/../../x", "/x", "a//b", ".lock", ".", "", "a/./b"] {
            assert!(store.put(key, bytes("x"), PutMode::Overwrite).await.is_err(), "{key}");
            assert!(store.head(key).await.is_err(), "{key}");
        }
        let long = format!("a/{}", "x".repeat(300));
        assert!(matches!(
            store.put(&long, bytes("x"), PutMode::Create).await,
            Err(StoreError::NameTooLong(_))
        ));
    }
}

/// S3 against a real server on loopback; it needs a versitygw binary, named by `BERTH_TOOL_VERSITYGW`.
mod s3 {
    use std::{
        net::{TcpListener, TcpStream},
        process::{Child, Command, Stdio},
        time::Instant,
    };

    use super::*;
    use crate::store::{StoreOptions, from_url};

    struct Server {
        process: Child,
        root: tempfile::TempDir,
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }

    /// With TLS: the server's certificate lies as `ca.pem` in the directory.
    fn start(tool: &str, tls: bool) -> (Server, String) {
        let root = tempfile::tempdir().unwrap();
        let certificate = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(root.path().join("ca.pem"), certificate.cert.pem()).unwrap();
        std::fs::write(root.path().join("key.pem"), certificate.signing_key.serialize_pem()).unwrap();
        std::fs::create_dir_all(root.path().join("data/bucket")).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new(tool)
            .args(["--access", "tester", "--secret", "testerkey", "--port", &address.to_string()])
            .args(tls.then(|| format!("--cert={}", root.path().join("ca.pem").display())))
            .args(tls.then(|| format!("--key={}", root.path().join("key.pem").display())))
            .arg("posix")
            .arg(root.path().join("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "versitygw does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        let scheme = if tls { "https" } else { "http" };
        (Server { process, root }, format!("{scheme}://{address}"))
    }

    /// The store is configured by the environment, which a test must not change: so each question is put to a child
    /// process of this test binary, which runs `child` alone.
    fn ask(endpoint: &str, secret: &str, question: &str) {
        ask_trusting(endpoint, secret, question, None);
    }

    fn ask_trusting(endpoint: &str, secret: &str, question: &str, ca: Option<&std::path::Path>) {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["store::conformance::s3::child", "--exact", "--ignored", "--nocapture"])
            .env("AWS_ENDPOINT_URL", endpoint)
            .env("AWS_ALLOW_HTTP", if endpoint.starts_with("https") { "false" } else { "true" })
            .envs(ca.map(|ca| ("BERTH_TEST_CA", ca)))
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "tester")
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .env("BERTH_TEST_QUESTION", question)
            .status()
            .unwrap();
        assert!(status.success(), "{question}");
    }

    #[test]
    fn conforms_and_fails_with_reasons() {
        let Ok(tool) = std::env::var("BERTH_TOOL_VERSITYGW") else { return };
        let (server, endpoint) = start(&tool, false);
        ask(&endpoint, "testerkey", "conforms");
        ask(&endpoint, "testerkey", "prefixes are apart");
        ask(&endpoint, "testerkey", "engine");
        ask(&endpoint, "testerkey", "presigned");
        ask(&endpoint, "testerkey", "no bucket");
        ask(&endpoint, "wrong", "wrong key");
        drop(server);
        ask(&endpoint, "testerkey", "no server");
    }

    #[test]
    fn a_private_authority_is_trusted_when_named() {
        let Ok(tool) = std::env::var("BERTH_TOOL_VERSITYGW") else { return };
        let (server, endpoint) = start(&tool, true);
        ask_trusting(&endpoint, "testerkey", "conforms", Some(&server.root.path().join("ca.pem")));
        ask(&endpoint, "testerkey", "no server");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    #[ignore = "run by conforms_and_fails_with_reasons with an environment of its own"]
    async fn child() {
        let options = StoreOptions { ca_file: std::env::var_os("BERTH_TEST_CA").map(Into::into) };
        let open = |url: &str| from_url(url, &options).unwrap();
        let reason = async |url: &str| read(open(url).as_ref(), "x").await.unwrap_err().reason();
        let question = std::env::var("BERTH_TEST_QUESTION").unwrap_or_default();
        match question.as_str() {
            "conforms" => conforms(open("s3://bucket/some/prefix")).await,
            "prefixes are apart" => {
                let (a, b, top) = (open("s3://bucket/a"), open("s3://bucket/a/b"), open("s3://bucket"));
                a.put("k", bytes("a"), PutMode::Create).await.unwrap();
                b.put("k", bytes("b"), PutMode::Create).await.unwrap();
                assert_eq!(keys(a.as_ref(), "", None, 10).await.0, ["b/k", "k"]);
                assert_eq!(read(top.as_ref(), "a/b/k").await.unwrap().0, "b");
            }
            "engine" => crate::engine::tests::on_any_store(open("s3://bucket/engine")).await,
            "presigned" => presigned(open("s3://bucket/presigned")).await,
            "no bucket" => {
                assert_eq!(reason("s3://none").await, "BucketNotFound");
                assert_eq!(open("s3://none").list("", None, 1).await.unwrap_err().reason(), "BucketNotFound");
            }
            "wrong key" => assert_eq!(reason("s3://bucket").await, "CredentialsRefused"),
            "no server" => assert_eq!(reason("s3://bucket").await, "StoreUnreachable"),
            other => panic!("no such question: {other:?}"),
        }
    }
}
