//! What the directory store promises beyond `conformance`: memory that is never wrong.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use futures::FutureExt as _;

use super::{
    super::{Entry, read},
    *,
};

fn numbered(number: u64) -> Bytes {
    number.to_string().into()
}

fn open() -> (tempfile::TempDir, DirectoryStore) {
    let root = tempfile::tempdir().unwrap();
    let store = DirectoryStore::open(root.path()).unwrap();
    (root, store)
}

#[tokio::test]
async fn a_warm_read_opens_no_file_and_waits_for_no_writer() {
    let (root, store) = open();
    let etag = store.put("a/b", numbered(1), PutMode::Create).await.unwrap();
    let writing = store.files.lock("a/b");
    std::fs::remove_file(root.path().join("a/b")).unwrap();
    let (body, meta) = read(&store, "a/b").now_or_never().unwrap().unwrap();
    assert_eq!((body, &meta.etag), (numbered(1), &etag));
    assert_eq!(store.head("a/b").now_or_never().unwrap().unwrap(), meta);
    let unchanged = GetOptions { if_none_match: Some(etag), range: None };
    let answer = store.get("a/b", unchanged).now_or_never().unwrap();
    assert!(matches!(answer, Err(StoreError::NotModified(_))));
    drop(writing);
}

#[tokio::test]
async fn what_is_large_is_not_remembered_and_what_is_replaced_neither() {
    let (_root, store) = open();
    let large = usize::try_from(SIZES.small).unwrap() + 1;
    store.put("a", numbered(1), PutMode::Create).await.unwrap();
    store.put("a", vec![7; large].into(), PutMode::Overwrite).await.unwrap();
    assert!(store.recall("a").is_none());
    assert_eq!(read(&store, "a").await.unwrap().0.len(), large);
    assert!(store.recall("a").is_none());
    store.put("a", numbered(2), PutMode::Overwrite).await.unwrap();
    assert_eq!(store.recall("a").unwrap().0, numbered(2));
    store.delete("a").await.unwrap();
    assert!(store.recall("a").is_none());
}

/// Writers count a key up by compare-and-swap or delete it and begin again above; the memory loses entries at any
/// time. No reader sees a number go back, and who was told that a number is written reads no lower one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_never_goes_back() {
    const KEYS: [&str; 3] = ["r/a", "r/b", "s/c"];
    let (_root, store) = open();
    let floors: Arc<[AtomicU64; 3]> = Arc::default();
    let done = Arc::new(AtomicBool::new(false));
    let number = |body: &Bytes| std::str::from_utf8(body).unwrap().parse::<u64>().unwrap();
    let readers = (0..6).map(|reader| {
        let (store, done) = (store.clone(), done.clone());
        tokio::spawn(async move {
            let mut seen = [0; KEYS.len()];
            while !done.load(Ordering::SeqCst) {
                for (key, seen) in KEYS.iter().zip(&mut seen) {
                    if reader == 0 {
                        // As if it had been evicted.
                        store.files.forget(key);
                    }
                    if let Ok((body, _)) = read(&store, key).await {
                        assert!(number(&body) >= *seen, "{key} went back from {seen} to {body:?}");
                        *seen = number(&body);
                    }
                }
                tokio::task::yield_now().await;
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    let writers = (0..6_usize).map(|writer| {
        let (store, floors) = (store.clone(), floors.clone());
        tokio::spawn(async move {
            for round in 0..40 {
                let at = (writer + round) % KEYS.len();
                let (key, floor) = (KEYS[at], &floors[at]);
                let written = match read(&store, key).await {
                    Ok((body, meta)) if round % 8 == 7 => {
                        floor.fetch_max(number(&body), Ordering::SeqCst);
                        let deleted = store.delete_version(key, &meta.etag).await;
                        assert!(matches!(deleted, Ok(()) | Err(StoreError::Precondition(_))));
                        continue;
                    }
                    Ok((body, meta)) => {
                        let next = number(&body) + 1;
                        let mode = PutMode::Update(meta.etag);
                        store.put(key, numbered(next), mode).await.map(|_| next)
                    }
                    Err(_) => {
                        let next = floor.load(Ordering::SeqCst) + 1;
                        store.put(key, numbered(next), PutMode::Create).await.map(|_| next)
                    }
                };
                match (written, read(&store, key).await) {
                    (Ok(written), Ok((body, _))) => assert!(number(&body) >= written, "{key}"),
                    (Ok(_) | Err(StoreError::Precondition(_)), _) => {}
                    (Err(error), _) => panic!("{error}"),
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
}

#[test]
fn what_lies_behind_a_torn_record_never_follows_a_newer_one() {
    let root = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    let open = || journal::Journal::open(&disk, root.path(), SIZES).unwrap();
    let change = |key: &str| journal::Change::Put { key: key.to_owned(), modified: 1 };
    for key in ["a", "b"] {
        open().0.append(&change(key), b"body").unwrap();
    }
    let path = root.path().join(".journal/1");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|window| window == b"body").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (journal, changes) = open();
    assert!(changes.is_empty(), "the journal ends where it is torn");
    journal.append(&change("c"), b"body").unwrap();
    assert_eq!(open().1, [(change("c"), Bytes::from_static(b"body"))]);
}

/// What is there must be a value that may be there, and a listing must agree.
async fn check(store: &DirectoryStore, allowed: &power::Allowed, at: &str) {
    let listed = store.list("", None, 1000).await.unwrap().entries;
    for (key, values) in allowed {
        let found = match read(store, key).await {
            Ok((body, meta)) => {
                assert!(listed.contains(&Entry { key: key.clone(), meta }), "{at}: {key} is not listed so");
                Some(String::from_utf8(body.to_vec()).unwrap())
            }
            Err(StoreError::NotFound(_)) => None,
            Err(error) => panic!("{at}: {key}: {error}"),
        };
        assert!(values.contains(&found), "{at}: {key} is {found:.30?}, not one of {values:.30?}");
    }
    let strange = listed.iter().find(|entry| !allowed.contains_key(&entry.key));
    assert!(strange.is_none(), "{at}: {strange:?} is there");
}

/// Puts, replaces and deletes keys of its own, small and large, in one go and in parts.
async fn work(store: DirectoryStore, disk: Arc<power::Recorder>, task: usize) {
    let shared = |i: usize| format!("w/{i}/{task}");
    for round in 0..2 {
        let small = shared(round % 2);
        let value = format!("small {task} {round}");
        disk.begin(&small, Some(value.clone()));
        let etag = store.put(&small, value.clone().into(), PutMode::Overwrite).await.unwrap();
        disk.acknowledge(&small, Some(value));

        let large = format!("d/{task}/{round}");
        let value = format!("large {task} {round} ").repeat(80);
        disk.begin(&large, Some(value.clone()));
        store.put(&large, value.clone().into(), PutMode::Create).await.unwrap();
        disk.acknowledge(&large, Some(value));

        let value = format!("swapped {task} {round}");
        disk.begin(&small, Some(value.clone()));
        let etag = store.put(&small, value.clone().into(), PutMode::Update(etag)).await.unwrap();
        disk.acknowledge(&small, Some(value));
        if (task + round).is_multiple_of(2) {
            disk.begin(&small, None);
            store.delete_version(&small, &etag).await.unwrap();
            disk.acknowledge(&small, None);
            disk.begin(&large, None);
            store.delete(&large).await.unwrap();
            disk.acknowledge(&large, None);
        }
    }
    let key = format!("m/{task}");
    let id = store.create_multipart(&key).await.unwrap();
    let parts = [&"abcdefgh".repeat(512), "end"];
    let mut etags = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        etags.push(store.put_part(&key, &id, index, (*part).to_owned().into()).await.unwrap());
    }
    disk.begin(&key, Some(parts.concat()));
    store.complete_multipart(&key, &id, &etags).await.unwrap();
    disk.acknowledge(&key, Some(parts.concat()));
}

/// Recovers, writes on, and loses power again at any point of that. What was seen in between must stay.
async fn again(root: &Path, allowed: &power::Allowed, at: &str) {
    let disk = power::Recorder::new(root);
    let store = disk.store();
    let mut seen = power::Allowed::new();
    for key in allowed.keys() {
        let found = read(&store, key).await.ok().map(|(body, _)| String::from_utf8(body.to_vec()).unwrap());
        seen.insert(key.clone(), vec![found]);
    }
    let recovered = disk.steps();
    for round in 0..2 {
        let (key, value) = (format!("w/{round}/8"), format!("small 8 {round}"));
        disk.begin(&key, Some(value.clone()));
        store.put(&key, value.clone().into(), PutMode::Create).await.unwrap();
        disk.acknowledge(&key, Some(value));
    }
    for step in 0..=disk.steps() {
        for loss in power::Loss::after(step) {
            let (image, more) = disk.cut(step, loss);
            let mut allowed = if step < recovered { allowed.clone() } else { seen.clone() };
            allowed.extend(more);
            let found = image.directory();
            let at = format!("{at}, then {loss:?} after step {step} ({recovered} recovered)");
            check(&power::reopen(found.path()), &allowed, &at).await;
        }
    }
}

/// The power fails after every single step, and now and then again while the store recovers.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_acknowledged_outlives_a_power_loss_at_any_point() {
    let root = power::scratch();
    let disk = power::Recorder::new(root.path());
    let store = disk.store();
    let tasks: Vec<_> = (0..3).map(|task| tokio::spawn(work(store.clone(), disk.clone(), task))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    let cut = |from: usize| {
        let disk = disk.clone();
        async move {
            for step in (from..=disk.steps()).step_by(2) {
                for loss in power::Loss::after(step) {
                    let at = format!("{loss:?} after step {step}");
                    let (image, allowed) = disk.cut(step, loss);
                    let found = image.directory();
                    if step % 48 == from && !matches!(loss, power::Loss::Nothing) {
                        again(found.path(), &allowed, &at).await;
                        continue;
                    }
                    check(&power::reopen(found.path()), &allowed, &at).await;
                }
            }
        }
    };
    let halves = [tokio::spawn(cut(0)), tokio::spawn(cut(1))];
    for half in halves {
        half.await.unwrap();
    }
}
