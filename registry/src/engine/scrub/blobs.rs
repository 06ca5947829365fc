//! Every blob: is its record readable, are its bytes there and what its digest says, do its links agree?

use std::collections::BTreeSet;

use berth_registry_core::{
    Digest, RepositoryName, key,
    protocol::Slot,
    protocol::{CollectLink, Collected, Forget, Forgotten, MendLink, Purge, Quarantine, Quarantined},
    record::{Blob, Link, State},
    scrub::{Damage, ScrubProgress, Treatment},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;

use super::{
    super::{
        Engine, EngineError,
        drive::Place,
        hasher::Hasher,
        inventory::{Inventory, Item, Known},
    },
    Case, STRIDE_BYTES, Scrub,
};
use crate::store::{GetOptions, StoreError};

/// Blobs that are looked at at once.
const WIDTH: usize = 4;

/// What was found under a data key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Good,
    Missing,
    /// Another number of bytes.
    Size(u64),
    /// Another content.
    Content,
}

impl Found {
    fn damage(&self) -> Damage {
        match self {
            Self::Size(_) => Damage::TruncatedBlob,
            Self::Missing => Damage::MissingData,
            Self::Good | Self::Content => Damage::CorruptBlob,
        }
    }
}

impl Scrub {
    pub(super) async fn blobs(&self, progress: &mut ScrubProgress) -> Result<(), EngineError> {
        let after = progress.after.as_deref().and_then(|digest| digest.parse::<Digest>().ok());
        let mut inventory = Inventory::new(&self.engine, after.as_ref(), false);
        let (mut objects, mut bytes) = (0, self.counts().bytes);
        while let Some(shard) = inventory.next().await? {
            for key in shard.strays {
                self.report(Case::new(Damage::UnknownObject, key, "no blob or link has such a key")).await;
            }
            for some in shard.items.chunks(8 * WIDTH) {
                let looks = some.iter().map(|item| async move {
                    if let Err(error) = self.blob(item).await {
                        self.failed(&item.digest.to_string(), &error);
                    }
                });
                // Boxed, because the compiler cannot see through borrowing closures in a stream.
                let looks: Vec<futures::future::BoxFuture<'_, ()>> =
                    looks.map(|look| Box::pin(look) as _).collect();
                stream::iter(looks).buffer_unordered(WIDTH).collect::<Vec<()>>().await;
                objects += some.len() as u64;
                if objects >= self.stride || self.counts().bytes >= bytes + STRIDE_BYTES {
                    (objects, bytes) = (0, self.counts().bytes);
                    progress.after = some.last().map(|item| item.digest.to_string());
                    self.save(progress).await?;
                }
            }
        }
        Ok(())
    }

    async fn blob(&self, item: &Item) -> Result<(), EngineError> {
        let digest = &item.digest;
        self.counts().blobs += 1;
        self.records(item).await;
        let links: Vec<(&RepositoryName, &Known<Link>, &Link)> = item
            .links
            .iter()
            .filter_map(|(repository, known)| Some((repository, known, known.record.as_ref()?)))
            .collect();
        for (repository, known, link) in &links {
            if link.state == State::Pending && known.modified < self.lease && link.since < self.lease {
                let case =
                    Case::new(Damage::PendingLeftover, &*known.key, "a link was begun and never ended");
                let cure = async {
                    let machine = CollectLink::new(Some(self.lease));
                    let collected = self.engine.drive(machine, &Place::new(repository, digest)).await?;
                    Ok((collected == Collected::Dead).then_some(Treatment::Repaired))
                };
                self.treat(case.of(repository).about(digest), Treatment::Repaired, cure).await;
            }
        }
        self.dead_links(digest, &links).await;
        let visible = |link: &Link| link.state.is_visible();
        match item.blob.as_ref().and_then(|known| Some((known, known.record.as_ref()?))) {
            Some((known, blob)) if blob.state.is_visible() => {
                let found = self.examine(digest, &blob.data, blob.size).await?;
                if found != Found::Good {
                    return self.bad(digest, known, blob, &found).await;
                }
                for (repository, known, link) in links {
                    if visible(link) && (link.data != blob.data || link.size != blob.size) {
                        let case = Case::new(Damage::StaleLink, &*known.key, "the link names other bytes");
                        let cure = async {
                            self.mend(repository, digest).await?;
                            Ok(Some(Treatment::Repaired))
                        };
                        self.treat(case.of(repository).about(digest), Treatment::Repaired, cure).await;
                    }
                }
            }
            blob => {
                if let Some((repository, known, _)) = links.iter().find(|(_, _, link)| visible(link)) {
                    return self.without_blob(digest, repository, known).await;
                }
                if let Some((known, blob)) = blob {
                    self.tombstone(digest, known, blob).await;
                }
            }
        }
        Ok(())
    }

    /// Records that cannot be read stand in the way of everyone. A blob's becomes a tombstone, from which an upload, or
    /// the links, bring it back; a link's, too, from which the manifests that need it bring it back.
    async fn records(&self, item: &Item) {
        let seen = "the record cannot be read";
        if let Some(known) = item.blob.as_ref().filter(|known| known.record.is_none()) {
            let none = Blob { state: State::Purged, size: 0, data: String::new(), until: None };
            let cure = self.replace(&known.key, &known.etag, &none, Treatment::Quarantined);
            let case = Case::new(Damage::DamagedRecord, &*known.key, seen).about(&item.digest);
            self.treat(case, Treatment::Quarantined, cure).await;
        }
        for (repository, known) in item.links.iter().filter(|(_, known)| known.record.is_none()) {
            let none =
                Link { state: State::Dead, size: 0, data: String::new(), since: Timestamp::UNIX_EPOCH };
            let cure = self.replace(&known.key, &known.etag, &none, Treatment::Quarantined);
            let case = Case::new(Damage::DamagedRecord, &*known.key, seen);
            self.treat(case.of(repository).about(&item.digest), Treatment::Quarantined, cure).await;
        }
    }

    /// Looks at the bytes under a key: all of them, or only how many there are.
    async fn examine(&self, digest: &Digest, data: &str, size: u64) -> Result<Found, EngineError> {
        if self.request.verify_bytes {
            return self.hash(digest, data, Some(size)).await;
        }
        match self.engine.store().head(data).await {
            Ok(meta) if meta.size == size => Ok(Found::Good),
            Ok(meta) => Ok(Found::Size(meta.size)),
            Err(StoreError::NotFound(_)) => Ok(Found::Missing),
            Err(error) => Err(error.into()),
        }
    }

    async fn hash(&self, digest: &Digest, data: &str, size: Option<u64>) -> Result<Found, EngineError> {
        if data.is_empty() {
            return Ok(Found::Missing);
        }
        let object = match self.engine.store().get(data, GetOptions::default()).await {
            Ok(object) => object,
            Err(StoreError::NotFound(_)) => return Ok(Found::Missing),
            Err(error) => return Err(error.into()),
        };
        if size.is_some_and(|size| size != object.meta.size) {
            return Ok(Found::Size(object.meta.size));
        }
        let (mut hasher, mut body) = (Hasher::new(digest.algorithm()), object.body);
        while let Some(chunk) = body.try_next().await? {
            hasher.update(&chunk);
            self.counts().bytes += chunk.len() as u64;
            self.pace.spend(chunk.len()).await;
        }
        Ok(if hasher.digest().as_ref() == Some(digest) { Found::Good } else { Found::Content })
    }

    /// The bytes of a visible blob are bad.
    async fn bad(
        &self,
        digest: &Digest,
        known: &Known<Blob>,
        blob: &Blob,
        found: &Found,
    ) -> Result<(), EngineError> {
        // Once more: it may have been collected meanwhile, or the bytes were fine and the wire was not.
        let now = self.engine.read_record::<Blob>(&known.key).await?;
        let same = now.is_some_and(|(now, _)| now.state.is_visible() && now.data == blob.data);
        if !same || self.examine(digest, &blob.data, blob.size).await? != *found {
            return Ok(());
        }
        let seen = match found {
            Found::Missing => format!("{} is not in the store", blob.data),
            Found::Size(size) => format!("{} has {size} bytes instead of {}", blob.data, blob.size),
            Found::Good | Found::Content => format!("{} holds other bytes", blob.data),
        };
        let planned = match self.survivor(digest, &blob.data).await? {
            Some(_) => Treatment::Repaired,
            None => Treatment::Quarantined,
        };
        let cure = async {
            let place = Place::blob(digest);
            let machine = Quarantine::new(blob.data.clone(), self.due);
            match self.engine.drive(machine, &place).await? {
                Quarantined::Yes => self.realign(digest, &blob.data).await.map(Some),
                Quarantined::No => Ok(None),
            }
        };
        self.treat(Case::new(found.damage(), &*known.key, seen).about(digest), planned, cure).await;
        Ok(())
    }

    /// A visible link, and no visible record of the blob.
    async fn without_blob(
        &self,
        digest: &Digest,
        repository: &RepositoryName,
        link: &Known<Link>,
    ) -> Result<(), EngineError> {
        // The listings are not of one moment: the link, then the blob, then the link again are.
        let before = self.engine.read_record::<Link>(&link.key).await?;
        let blob = self.engine.read_record::<Blob>(&key::blob(digest)).await;
        let blob = match blob {
            Ok(blob) => blob,
            // A dry run leaves the record that cannot be read.
            Err(EngineError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        let after = self.engine.read_record::<Link>(&link.key).await?;
        let stands = before.as_ref().is_some_and(|(link, _)| link.state.is_visible()) && before == after;
        if !stands || blob.is_some_and(|(blob, _)| blob.state.is_visible()) {
            return Ok(());
        }
        let planned = match self.survivor(digest, "").await? {
            Some(_) => Treatment::Repaired,
            None => Treatment::Quarantined,
        };
        let cure = async { self.realign(digest, "").await.map(Some) };
        let case = Case::new(Damage::LinkWithoutBlob, &*link.key, "the blob has no live record");
        self.treat(case.of(repository).about(digest), planned, cure).await;
        Ok(())
    }

    /// A link that names intact bytes of a blob, other than those known to be bad.
    async fn survivor(
        &self,
        digest: &Digest,
        bad: &str,
    ) -> Result<Option<(RepositoryName, String)>, EngineError> {
        let mut tried = BTreeSet::from([bad.to_owned()]);
        for (repository, link) in self.engine.links_of(digest).await? {
            if link.state.is_visible()
                && tried.insert(link.data.clone())
                && self.hash(digest, &link.data, None).await? == Found::Good
            {
                return Ok(Some((repository, link.data)));
            }
        }
        Ok(None)
    }

    /// After the blob's record has lost its bytes: uploads what another link still has, as a client would, with a key of
    /// its own; then brings all links in line. Links that come later find the record as it is now.
    async fn realign(&self, digest: &Digest, bad: &str) -> Result<Treatment, EngineError> {
        let survivor = self.survivor(digest, bad).await?;
        if let Some((repository, data)) = &survivor {
            let object = self.engine.store().get(data, GetOptions::default()).await?;
            let body = object.body.map_err(std::io::Error::other).boxed();
            self.engine.put_blob(repository, digest, body).await?;
        }
        for (repository, _) in self.engine.links_of(digest).await? {
            self.mend(&repository, digest).await?;
        }
        Ok(if survivor.is_some() { Treatment::Repaired } else { Treatment::Quarantined })
    }

    async fn mend(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), EngineError> {
        self.engine.drive(MendLink::default(), &Place::new(repository, digest)).await?;
        self.engine.inner.links.forget(repository, digest);
        Ok(())
    }

    /// A dead or purged record that nothing refers to, past its time.
    async fn tombstone(&self, digest: &Digest, known: &Known<Blob>, blob: &Blob) {
        let old = known.modified < self.window && blob.until.is_none_or(|until| until < self.now);
        if !old || (blob.state == State::Purged && !self.engine.drops_tombstones()) {
            return;
        }
        let cure = async {
            let place = Place::blob(digest);
            if blob.state == State::Dead {
                // Its record of trash is lost, or no collector has run for long.
                self.engine.drive(Purge::new(blob.data.clone(), self.now), &place).await?;
            }
            if self.engine.drops_tombstones() {
                self.engine.drive(Forget::new(Slot::Blob, self.window), &place).await?;
            }
            Ok(Some(Treatment::Repaired))
        };
        let seen = format!("the blob is {}", blob.state);
        let case = Case::new(Damage::OldTombstone, &*known.key, seen).about(digest);
        self.treat(case, Treatment::Repaired, cure).await;
    }

    async fn dead_links(&self, digest: &Digest, links: &[(&RepositoryName, &Known<Link>, &Link)]) {
        for (repository, known, link) in links {
            if link.state.is_reference() || known.modified > self.window || !self.engine.drops_tombstones() {
                continue;
            }
            let cure = async {
                let machine = Forget::new(Slot::Link, self.window);
                let forgotten = self.engine.drive(machine, &Place::new(repository, digest)).await?;
                Ok((forgotten == Forgotten::Yes).then_some(Treatment::Repaired))
            };
            let case = Case::new(Damage::OldTombstone, &*known.key, "the link is dead");
            self.treat(case.of(repository).about(digest), Treatment::Repaired, cure).await;
        }
    }
}

impl Engine {
    /// All links of a blob that can be read.
    async fn links_of(&self, digest: &Digest) -> Result<Vec<(RepositoryName, Link)>, EngineError> {
        let mut links = Vec::new();
        for entry in self.list_all(&key::links(digest)).await? {
            let Some(repository) = key::link_repository(digest, &entry.key) else { continue };
            match self.read_record::<Link>(&entry.key).await {
                Ok(Some((link, _))) => links.push((repository, link)),
                Ok(None) | Err(EngineError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(links)
    }
}
