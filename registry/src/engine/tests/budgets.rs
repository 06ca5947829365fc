//! Requests to the store per operation: the budgets of the engine's design, counted.

use std::collections::BTreeMap;

use berth_registry_core::Algorithm;

use super::*;

const MIB: usize = 1 << 20;

/// The memory store with the part size of S3.
#[derive(Debug, Default)]
struct Parts(MemoryStore);

#[async_trait]
impl Store for Parts {
    async fn get(&self, key: &str, options: GetOptions) -> Result<Object, StoreError> {
        self.0.get(key, options).await
    }
    async fn head(&self, key: &str) -> Result<Meta, StoreError> {
        self.0.head(key).await
    }
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Etag, StoreError> {
        self.0.put(key, body, mode).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.0.delete(key).await
    }
    async fn delete_version(&self, key: &str, etag: &str) -> Result<(), StoreError> {
        self.0.delete_version(key, etag).await
    }
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        self.0.list(prefix, after, limit).await
    }
    async fn create_multipart(&self, key: &str) -> Result<String, StoreError> {
        self.0.create_multipart(key).await
    }
    async fn put_part(&self, key: &str, id: &str, index: usize, body: Bytes) -> Result<Etag, StoreError> {
        self.0.put_part(key, id, index, body).await
    }
    async fn complete_multipart(&self, key: &str, id: &str, parts: &[Etag]) -> Result<(), StoreError> {
        self.0.complete_multipart(key, id, parts).await
    }
    async fn abort_multipart(&self, key: &str, id: &str) -> Result<(), StoreError> {
        self.0.abort_multipart(key, id).await
    }
    fn part_size(&self) -> usize {
        8 * MIB
    }
}

struct Bench {
    engine: Engine,
    store: Arc<Faulty>,
    table: BTreeMap<&'static str, (usize, usize)>,
}

impl Bench {
    async fn new() -> Self {
        let store = Faulty::new(Arc::new(Parts::default()));
        let engine = open(&(Arc::clone(&store) as Arc<dyn Store>)).await;
        Self { engine, store, table: BTreeMap::new() }
    }

    /// A replica that knows nothing yet.
    async fn fresh(&mut self) -> Engine {
        let engine = open(&(Arc::clone(&self.store) as Arc<dyn Store>)).await;
        self.store.calls();
        engine
    }

    fn spent(&mut self, what: &'static str, budget: usize) {
        let calls = self.store.calls();
        println!("{what}: {} of {budget}", calls.len());
        assert!(
            calls.len() <= budget,
            "{what}: {} requests, {budget} allowed\n{}",
            calls.len(),
            calls.join("\n")
        );
        self.table.insert(what, (calls.len(), budget));
    }

    async fn push(&mut self, repo: &RepositoryName, bytes: Bytes, patch: bool) -> Digest {
        let digest = Digest::sha256(&bytes);
        let id = self.engine.begin_upload(repo, Algorithm::Sha256).await.unwrap();
        let (id, rest) = if patch {
            (self.engine.append(repo, &id, None, body(bytes)).await.unwrap().id, Bytes::new())
        } else {
            (id, bytes)
        };
        self.engine.finish_upload(repo, &id, None, body(rest), &digest).await.unwrap();
        digest
    }
}

#[tokio::test]
async fn requests_stay_within_the_budgets() {
    let mut bench = Bench::new().await;
    bench.fresh().await;
    // The first push into a repository enters it into the catalog, which is counted here, too.
    bench.push(&repo("new1"), pattern(MIB), false).await;
    bench.spent("push 1 MiB, POST+PUT", 6);
    bench.push(&repo("new2"), pattern(MIB + 1), true).await;
    bench.spent("push 1 MiB, POST+PATCH+PUT", 8);
    bench.push(&repo("new3"), pattern(64 * MIB), true).await;
    bench.spent("push 64 MiB, POST+PATCH+PUT", 12 + 8);
    bench.push(&repo("new4"), pattern(64 * MIB + 5), false).await;
    bench.spent("push 64 MiB, POST+PUT", 12 + 9);

    let repo_a = repo("a");
    let mut blobs = Vec::new();
    for size in [10, 20, 30, 40] {
        blobs.push(bench.push(&repo_a, pattern(size), false).await);
    }
    bench.fresh().await;
    let bytes = image(&blobs.iter().collect::<Vec<_>>(), "");
    let manifest = push(&bench.engine, &repo_a, "v1", bytes.clone()).await;
    bench.spent("PUT manifest, config + 3 layers", 9);

    let cold = bench.fresh().await;
    cold.get_manifest(&repo_a, &tag("v1")).await.unwrap();
    bench.spent("GET manifest by tag", 2);
    cold.get_manifest(&repo_a, &Reference::Digest(manifest.clone())).await.unwrap();
    bench.spent("GET manifest by digest", 1);
    read_all(&cold, &repo_a, &blobs[0]).await;
    bench.spent("GET blob, cold", 2);
    read_all(&cold, &repo_a, &blobs[0]).await;
    bench.spent("GET blob, warm", 1);
    cold.stat_blob(&repo_a, &blobs[0]).await.unwrap();
    bench.spent("HEAD blob", 1);
    assert!(cold.mount(&repo("b"), &repo_a, &blobs[0]).await.unwrap());
    bench.spent("mount with from", 4);

    for i in 0..200 {
        let bytes = attached(&blobs[0], &manifest, "sig", &i.to_string());
        let reference = Reference::Digest(Digest::sha256(&bytes));
        bench.engine.put_manifest(&repo_a, &reference, None, bytes, PutOptions::default()).await.unwrap();
    }
    assert_eq!(bench.engine.referrers(&repo_a, &manifest, None).await.unwrap().len(), 200);
    let cold = bench.fresh().await;
    assert_eq!(cold.referrers(&repo_a, &manifest, None).await.unwrap().len(), 200);
    bench.spent("200 referrers, listed before by any replica", 2);

    for i in 0..999 {
        push(&bench.engine, &repo_a, &format!("tag{i:04}"), bytes.clone()).await;
    }
    for i in 0..1000 {
        let name = format!("many/r{i:04}");
        bench.store.put(&key::catalog(&name), Bytes::new(), PutMode::Overwrite).await.unwrap();
    }
    let cold = bench.fresh().await;
    assert_eq!(cold.tags(&repo_a, None, 10_000).await.unwrap().items.len(), 1000);
    bench.spent("tags list, 1,000 tags", 2);
    assert_eq!(cold.tags(&repo_a, Some("tag0100"), 100).await.unwrap().items.len(), 100);
    bench.spent("tags list, a page of 100", 1);
    assert!(cold.catalog(None, 10_000).await.unwrap().items.len() >= 1000);
    bench.spent("catalog, 1,000 repositories", 2);
    assert_eq!(cold.catalog(None, 100).await.unwrap().items.len(), 100);
    bench.spent("catalog, a page of 100", 1);

    let repo_c = repo("c");
    let config = push_blob(&bench.engine, &repo_c, "{}").await;
    let signature = push(&bench.engine, &repo_c, "sig", attached(&config, &manifest, "sig", "")).await;
    bench.fresh().await;
    bench.engine.delete_manifest(&repo_c, &signature).await.unwrap();
    bench.spent("DELETE manifest with a subject and one tag", 6 + 1);
    for name in ["v1", "v2", "v3"] {
        push(&bench.engine, &repo_c, name, image(&[&config], "")).await;
    }
    bench.fresh().await;
    bench.engine.delete_manifest(&repo_c, &Digest::sha256(&image(&[&config], ""))).await.unwrap();
    bench.spent("DELETE manifest with three tags", 5 + 2 * 3);
    bench.engine.check().await.unwrap();
    bench.spent("readiness", 1);

    println!("{:#?}", bench.table);
}

/// How many calls of an operation wait for each other: each call takes a second of virtual time.
async fn waves<T>(engine: impl Future<Output = T>) -> (T, u64) {
    let begun = tokio::time::Instant::now();
    let result = engine.await;
    (result, begun.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn calls_that_need_not_wait_do_not() {
    let store = Faulty::slow(Arc::new(Parts::default()), Duration::from_secs(1));
    let engine = open(&(Arc::clone(&store) as Arc<dyn Store>)).await;
    let repo = repo("a");
    let mut blobs = Vec::new();
    for size in [10, 20, 30, 40] {
        blobs.push(push_blob(&engine, &repo, pattern(size)).await);
    }
    let bytes = image(&blobs.iter().collect::<Vec<_>>(), "");
    let (manifest, spent) = waves(push(&engine, &repo, "v1", bytes)).await;
    assert!(spent <= 5, "a manifest of four blobs takes {spent} waves");
    let ((), spent) = waves(async {
        push_blob(&engine, &repo, pattern(50)).await;
    })
    .await;
    assert!(spent <= 4, "a small blob takes {spent} waves");
    for i in 0..20 {
        let bytes = attached(&blobs[0], &manifest, "sig", &i.to_string());
        push(&engine, &repo, "sig", bytes).await;
    }
    engine.referrers(&repo, &manifest, None).await.unwrap();
    let (listed, spent) = waves(engine.referrers(&repo, &manifest, None)).await;
    assert_eq!((listed.unwrap().len(), spent), (20, 2));
}

#[tokio::test(start_paused = true)]
async fn an_idle_replica_asks_for_nothing() {
    let store = Faulty::new(Arc::new(MemoryStore::default()));
    let engine = open(&(Arc::clone(&store) as Arc<dyn Store>)).await;
    let config = push_blob(&engine, &repo("a"), "{}").await;
    push(&engine, &repo("a"), "v1", image(&[&config], "")).await;
    store.calls();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(store.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn a_manifest_is_written_in_five_waves() {
    // The steps that wait for each other: pending, references, live, tag. History and hints go beside them.
    let (_, inner) = memory().await;
    let store = Faulty::new(inner);
    let engine = open(&(Arc::clone(&store) as Arc<dyn Store>)).await;
    let repo = repo("a");
    let blobs = [push_blob(&engine, &repo, "1").await, push_blob(&engine, &repo, "2").await];
    store.calls();
    push(&engine, &repo, "v1", image(&[&blobs[0], &blobs[1]], "")).await;
    let calls = store.calls();
    let at =
        |what: &str| calls.iter().position(|call| call.starts_with(what)).unwrap_or_else(|| panic!("{what}"));
    assert!(at("PUT n/a!m/") < at("GET l/"), "written as a reference, then the state is read: {calls:#?}");
    assert!(calls.iter().rposition(|call| call.starts_with("GET l/")).unwrap() < at("PUT n/a!t/"));
    assert!(at("PUT n/a!g/") < at("PUT n/a!t/"), "the hint before the tag");
}

/// R-OPR-6: a warm gate asks the store for nothing that a pull does not ask for anyway; a cold one says what it takes.
#[tokio::test]
async fn a_warm_gate_asks_for_nothing_more() {
    let key = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEVBiFo/TiNcGHDnMC5qcTrn2s8zZ0\n\
               cJQ2C9XkKAyPvZXIivQxaTPRXQAodApL2oI/Vo+bK979KcWrzEn/f0B/bg==\n-----END PUBLIC KEY-----\n";
    let config = serde_json::json!({"host": "r.io", "policies": [{"name": "a/b", "policy": {
        "images": ["r.io/**"],
        "require": [{"signature": {"authorities": [{"name": "a", "key": {"pem": key}}]}}],
    }}]});
    let gate = serde_json::from_value(config).unwrap();
    let gate = crate::gate::Gate::believing(gate, Duration::MAX).unwrap();
    let mut bench = Bench::new().await;
    let repo = repo("a");
    let config = push_blob(&bench.engine, &repo, "{}").await;
    let layer = r#""layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","#;
    let bytes = image(&[&config, &config], "");
    let bytes = String::from_utf8(bytes.to_vec()).unwrap().replace(r#""layers":[{"mediaType":"a/b","#, layer);
    push(&bench.engine, &repo, "v1", bytes.into()).await;
    bench.fresh().await;
    let manifest = bench.engine.get_manifest(&repo, &tag("v1")).await.unwrap();
    bench.spent("GET manifest by tag", 2);
    assert!(gate.pass(&bench.engine, &repo, &manifest).await.is_err());
    // Two tags, the list of referrers, and who lists it: that of so few manifests is read from them.
    bench.spent("gate, cold, an image without evidence", 5);
    assert!(gate.pass(&bench.engine, &repo, &manifest).await.is_err());
    bench.spent("gate, warm", 0);
    push_blob(&bench.engine, &repo, "{ }").await;
    bench.store.calls();
    assert!(gate.pass(&bench.engine, &repo, &manifest).await.is_err());
    bench.spent("gate, warm, after a blob", 0);
    push(&bench.engine, &repo, "sig", attached(&config, &manifest.digest, "sig", "")).await;
    bench.store.calls();
    assert!(gate.pass(&bench.engine, &repo, &manifest).await.is_err());
    bench.spent("gate, after a push, with a referrer that is no evidence", 7);
}
