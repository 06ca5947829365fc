//! Where everything lies in the store: one function a kind of key, and back where a listing must be read.
//! `!` cannot occur in a repository name, so it ends one; it also sorts before every character of one, so that
//! listings come in the order of the names. Part of the engine's argument, see `registry/DESIGN.md`.

use jiff::{RoundMode, Timestamp, TimestampRound, Unit, tz::TimeZone};
use ulid::Ulid;

use crate::{
    digest::Digest,
    name::{RepositoryName, Tag},
};

/// Prefix of the catalog.
pub const CATALOG: &str = "c/";

/// The key with which the replicas sign upload ids.
pub const UPLOAD_SECRET: &str = "k/uploads";

/// Written only to see what time the store's clock says, or whether the store takes writes.
pub const CLOCK: &str = "k/clock";

/// How far the scrub has come.
pub const SCRUB: &str = "k/scrub";

/// The last snapshot of who uses how much.
pub const USAGE: &str = "k/usage";

/// Prefix of all bytes of blobs.
pub const DATA: &str = "d/";

/// Prefix of all records of blobs.
pub const BLOBS: &str = "b/";

/// Prefix of all links.
pub const LINKS: &str = "l/";

/// Prefix of what belongs to repositories.
pub const REPOSITORIES: &str = "n/";

/// Prefix of what there is one of.
pub const SETTINGS: &str = "k/";

/// Prefix of objects that ask whether the store keeps its promises.
pub const PROBES: &str = "p/";

fn spread(digest: &Digest) -> String {
    let hex = digest.hex();
    // A digest is never shorter than this.
    format!("{}/{}/{hex}", digest.algorithm().as_str(), hex.get(..2).unwrap_or(hex))
}

/// Bytes of a blob: named before their digest is known, never reused. The generation's last two characters are
/// random, so that data spreads over prefixes.
pub fn data(generation: Ulid) -> String {
    let text = generation.to_string().to_ascii_lowercase();
    format!("d/{}/{text}", text.get(24..).unwrap_or(&text))
}

/// The record of a blob.
pub fn blob(digest: &Digest) -> String {
    format!("b/{}", spread(digest))
}

/// The record that a repository holds a blob.
pub fn link(digest: &Digest, repository: &RepositoryName) -> String {
    format!("{}{repository}!", links(digest))
}

/// Prefix of all links to a blob.
pub fn links(digest: &Digest) -> String {
    format!("l/{}/", spread(digest))
}

/// The part of the key of a blob's record, or of a link, that neighbours share: `<algorithm>/<2>/`.
pub fn shard(key: &str) -> Option<&str> {
    let rest = key.get(2..)?;
    let end = rest.match_indices('/').nth(1)?.0;
    rest.get(..=end)
}

/// The digest of the key of a blob's record, or of a link.
pub fn blob_digest(key: &str) -> Option<Digest> {
    let mut parts = key.split('/').skip(1);
    let (algorithm, spread, hex) = (parts.next()?, parts.next()?, parts.next()?);
    let digest: Digest = format!("{algorithm}:{hex}").parse().ok()?;
    hex.starts_with(spread).then_some(digest)
}

/// A disposable cache of a shard's records.
pub fn inventory(shard: &str) -> String {
    format!("k/inventory/{}", shard.trim_end_matches('/'))
}

/// The repository of a key below [`REPOSITORIES`], and the rest of the key.
pub fn repository_of(key: &str) -> Option<(RepositoryName, &str)> {
    let (name, rest) = key.strip_prefix(REPOSITORIES)?.split_once('!')?;
    Some((name.parse().ok()?, rest))
}

/// The repository of a link's key.
pub fn link_repository(digest: &Digest, key: &str) -> Option<RepositoryName> {
    key.strip_prefix(&links(digest))?.strip_suffix('!')?.parse().ok()
}

/// A manifest's record.
pub fn manifest(repository: &RepositoryName, digest: &Digest) -> String {
    ["n/", repository.as_str(), "!m/", digest.as_str()].concat()
}

/// Prefix of a repository's manifests.
pub fn manifests(repository: &RepositoryName) -> String {
    format!("n/{repository}!m/")
}

/// A tag.
pub fn tag(repository: &RepositoryName, tag: &str) -> String {
    ["n/", repository.as_str(), "!t/", tag].concat()
}

/// Prefix of a repository's tags.
pub fn tags(repository: &RepositoryName) -> String {
    format!("n/{repository}!t/")
}

/// The hint that a tag may point to a manifest.
pub fn hint(repository: &RepositoryName, manifest: &Digest, tag: &Tag) -> String {
    format!("{}{tag}", hints(repository, manifest))
}

/// Prefix of the hints of a manifest.
pub fn hints(repository: &RepositoryName, manifest: &Digest) -> String {
    format!("n/{repository}!g/{manifest}/")
}

/// Prefix of the hints of a repository.
pub fn all_hints(repository: &RepositoryName) -> String {
    format!("n/{repository}!g/")
}

/// Prefix of the history of a repository's tags.
pub fn all_history(repository: &RepositoryName) -> String {
    format!("n/{repository}!h/")
}

/// Prefix of the history of a tag.
pub fn history_of(repository: &RepositoryName, tag: &Tag) -> String {
    format!("{}{tag}/", all_history(repository))
}

/// When the change of a tag that has this key happened.
pub fn history_time(key: &str) -> Option<Timestamp> {
    let (inverted, _) = key.rsplit('/').next()?.split_once('-')?;
    let millisecond = u64::MAX - inverted.parse::<u64>().ok()?;
    Timestamp::from_millisecond(i64::try_from(millisecond).ok()?).ok()
}

/// One change of a tag; newer changes sort first.
pub fn history(repository: &RepositoryName, tag: &Tag, at: Timestamp, generation: Ulid) -> String {
    format!("{}-{}", history_at(repository, tag, at), generation.to_string().to_ascii_lowercase())
}

/// Sorts before all changes of a tag that are not after `at`, and after all that are.
pub fn history_at(repository: &RepositoryName, tag: &Tag, at: Timestamp) -> String {
    let inverted = u64::MAX - u64::try_from(at.as_millisecond()).unwrap_or_default();
    format!("{}{inverted:020}", history_of(repository, tag))
}

/// The descriptor of a referrer.
pub fn referrer(
    repository: &RepositoryName,
    subject: &Digest,
    artifact_type: Option<&str>,
    referrer: &Digest,
) -> String {
    format!("{}{referrer}", referrers_of_type(repository, subject, artifact_type))
}

/// Prefix of the referrers of a manifest.
pub fn referrers(repository: &RepositoryName, subject: &Digest) -> String {
    format!("n/{repository}!s/{subject}/")
}

/// Prefix of the referrers of a manifest whose artifact type has the same short hash.
pub fn referrers_of_type(
    repository: &RepositoryName,
    subject: &Digest,
    artifact_type: Option<&str>,
) -> String {
    let hash = Digest::sha256(artifact_type.unwrap_or_default().as_bytes());
    format!("{}{}/", referrers(repository, subject), hash.hex().get(..8).unwrap_or_default())
}

/// Prefix of all referrers in a repository.
pub fn all_referrers(repository: &RepositoryName) -> String {
    format!("n/{repository}!s/")
}

/// Prefix of the disposable indexes of referrers.
pub fn referrer_indexes(repository: &RepositoryName) -> String {
    format!("n/{repository}!i/s/")
}

/// The disposable index of a manifest's referrers.
pub fn referrer_index(repository: &RepositoryName, subject: &Digest) -> String {
    format!("n/{repository}!i/s/{subject}")
}

/// The disposable index of what a repository's manifests hold on to.
pub fn reference_index(repository: &RepositoryName) -> String {
    format!("n/{repository}!i/r")
}

/// A repository's place in the catalog.
pub fn catalog(repository: &str) -> String {
    format!("{CATALOG}{repository}!")
}

/// The repository of a catalog key.
pub fn catalog_repository(key: &str) -> Option<&str> {
    key.strip_prefix(CATALOG)?.strip_suffix('!')
}

/// Prefix of upload sessions.
pub const UPLOADS: &str = "u/";

/// An upload session.
pub fn upload(generation: Ulid) -> String {
    format!("{UPLOADS}{}", generation.to_string().to_ascii_lowercase())
}

fn hour(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y%m%d%H").to_string()
}

/// Prefix of the work for the collector.
pub const CANDIDATES: &str = "q/";

/// Work for the collector: something lost a reference.
pub fn candidate(at: Timestamp, generation: Ulid) -> String {
    format!("{CANDIDATES}{}/{}", hour(at), generation.to_string().to_ascii_lowercase())
}

/// Prefix of what is due for deletion.
pub const TRASH: &str = "z/";

/// What goes at `due`: filed under the first whole second that is not before it, so that what is listed is due.
pub fn trash(due: Timestamp, generation: Ulid) -> String {
    let whole = due.round(TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil)).unwrap_or(due);
    format!("{}-{}", trash_at(whole), generation.to_string().to_ascii_lowercase())
}

/// Sorts after all trash that is due, before all that is not.
pub fn trash_after(now: Timestamp) -> String {
    format!("{}.", trash_at(now))
}

fn trash_at(at: Timestamp) -> String {
    format!("{TRASH}{}/{}", hour(at), at.to_zoned(TimeZone::UTC).strftime("%M%S"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn repository(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn the_layout_is_stable() {
        let digest = Digest::sha256(b"");
        let at: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let generation = Ulid::from_string("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap();
        let (repo, tag_name) = (repository("team/app"), "v1".parse().unwrap());
        insta::assert_snapshot!(
            [
                data(generation),
                blob(&digest),
                link(&digest, &repo),
                manifest(&repo, &digest),
                tag(&repo, "v1"),
                hint(&repo, &digest, &tag_name),
                history(&repo, &tag_name, at, generation),
                referrer(&repo, &digest, Some("a/b"), &digest),
                referrer_index(&repo, &digest),
                reference_index(&repo),
                catalog("team/app"),
                upload(generation),
                candidate(at, generation),
                trash(at, generation),
            ]
            .join("\n")
        );
    }

    #[test]
    fn keys_are_read_back() {
        let (digest, repo) = (Digest::sha256(b"x"), repository("team/app"));
        for key in [blob(&digest), link(&digest, &repo)] {
            assert_eq!(blob_digest(&key), Some(digest.clone()));
            assert_eq!(shard(&key), Some(format!("sha256/{}/", &digest.hex()[..2]).as_str()));
        }
        assert_eq!(blob_digest("b/sha256/zz/00"), None);
        assert_eq!(repository_of(&tag(&repo, "v1")), Some((repo, "t/v1")));
        let at: Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let change = history(&repository("a"), &"t".parse().unwrap(), at, Ulid::from_parts(0, 0));
        assert_eq!(history_time(&change), Some(at));
        assert_eq!(inventory("sha256/ab/"), "k/inventory/sha256/ab");
    }

    #[test]
    fn newer_history_sorts_first() {
        let (repo, tag) = (repository("a"), "t".parse().unwrap());
        let at = |text: &str| history(&repo, &tag, text.parse().unwrap(), Ulid::from_parts(0, 0));
        assert!(at("2026-01-02T03:04:06Z") < at("2026-01-02T03:04:05Z"));
        let limit = history_at(&repo, &tag, "2026-01-02T03:04:05Z".parse().unwrap());
        assert!(at("2026-01-02T03:04:05.001Z") < limit && limit < at("2026-01-02T03:04:05Z"));
    }

    proptest! {
        #[test]
        fn trash_is_listed_when_it_is_due_and_not_before(due in 0i64..10_000_000, now in 0i64..10_000_000) {
            let at = |second| Timestamp::from_second(second).unwrap();
            let listed = trash(at(due), Ulid::from_parts(u64::MAX >> 16, u128::MAX)) < trash_after(at(now));
            prop_assert_eq!(listed, due <= now);
        }

        #[test]
        fn catalog_keys_sort_as_names(a in "[a-z0-9]{1,3}([._/-][a-z0-9]{1,3}){0,3}", b in "[a-z0-9]{1,3}([._/-][a-z0-9]{1,3}){0,3}") {
            prop_assert_eq!(catalog(&a).cmp(&catalog(&b)), a.cmp(&b));
            let key = catalog(&a);
            prop_assert_eq!(catalog_repository(&key), Some(a.as_str()));
        }

        #[test]
        fn no_key_of_one_repository_is_a_key_of_another(a in "[a-z]{1,2}(/[a-z]{1,2}){0,2}", b in "[a-z]{1,2}(/[a-z]{1,2}){0,2}") {
            prop_assume!(a != b);
            let (a, b) = (repository(&a), repository(&b));
            let digest = Digest::sha256(b"x");
            prop_assert!(!manifest(&a, &digest).starts_with(&manifests(&b)));
            prop_assert!(link(&digest, &a) != link(&digest, &b));
            prop_assert_eq!(link_repository(&digest, &link(&digest, &a)), Some(a));
        }
    }
}
