//! `berth-registry replicate`: one pass that brings images, with everything that refers to them, from one registry to
//! another. It holds no state: both registries are compared each time, and what the destination has is the progress,
//! so a pass that dies costs nothing but its unfinished copies. Nothing is ever deleted.

mod attachments;
mod command;
mod graph;
mod selection;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

use berth_client::{Client, ClientError, Endpoint};
use berth_registry_core::{
    Digest, Reference, RepositoryName, Tag,
    config::{Remote, ReplicateConfig},
    job::ReplicationReport,
};
use futures::{StreamExt as _, stream};
use jiff::Timestamp;

pub use command::{CommandError, replicate};

use graph::{Copier, Pair};
use selection::Selected;

/// Images copied at once.
const IMAGES: usize = 4;
/// Repositories whose tags are compared at once, ahead of the copying.
const REPOSITORIES: usize = 2;
/// Tags compared at once in one repository.
const TAGS: usize = 8;
/// Failures that the report tells.
const ERRORS: usize = 5;

/// Why a pass could not even begin. What fails later fails for one image and stands in the report.
#[derive(Debug, thiserror::Error)]
pub enum ReplicateError {
    /// The source cannot be used.
    #[error("source: {0}")]
    Source(ClientError),
    /// The destination cannot be used.
    #[error("destination: {0}")]
    Destination(ClientError),
}

impl ReplicateError {
    /// Stable name.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Source(error) | Self::Destination(error) => error.reason(),
        }
    }
}

/// Brings what is selected and missing; a failed image does not stop the others.
pub async fn run(config: ReplicateConfig) -> Result<ReplicationReport, ReplicateError> {
    let source = connect(&config.source).await.map_err(ReplicateError::Source)?;
    let destination = connect(&config.destination).await.map_err(ReplicateError::Destination)?;
    pass(source, destination, &config).await.map_err(ReplicateError::Source)
}

async fn connect(remote: &Remote) -> Result<Client, ClientError> {
    Client::new(Endpoint::from_remote(remote).await?)
}

async fn pass(
    source: Client,
    destination: Client,
    config: &ReplicateConfig,
) -> Result<ReplicationReport, ClientError> {
    let started = Timestamp::now();
    let selected = Selected::new(config);
    let repositories = match selected.named_repositories() {
        Some(names) => names,
        None => source.catalog().await?.into_iter().filter(|name| selected.repository(name)).collect(),
    };
    let copier = Copier::new(source, destination);
    let (copier, selected) = (&copier, &selected);
    let outcomes: Vec<Outcome> = stream::iter(repositories)
        .map(|repository| plan(copier, selected, repository))
        .buffer_unordered(REPOSITORIES)
        .flat_map(stream::iter)
        .map(|work| async move {
            match work {
                Work::Image(image) => bring(copier, image).await,
                Work::Failed(error) => vec![Err(error)],
            }
        })
        .buffer_unordered(IMAGES)
        .flat_map(stream::iter)
        .collect()
        .await;
    let count = |change| outcomes.iter().filter(|outcome| **outcome == Ok(change)).count() as u64;
    let errors: BTreeSet<&String> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    Ok(ReplicationReport {
        started,
        finished: Timestamp::now(),
        copied: count(Change::Copied),
        unchanged: count(Change::Unchanged),
        failed: outcomes.iter().filter(|outcome| outcome.is_err()).count() as u64,
        bytes: copier.bytes.load(Ordering::Relaxed),
        errors: errors.into_iter().take(ERRORS).cloned().collect(),
    })
}

/// What became of one tag; the error names it.
type Outcome = Result<Change, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Copied,
    Unchanged,
}

enum Work {
    Image(Image),
    Failed(String),
}

/// One manifest of the source with the selected tags that point to it.
struct Image {
    pair: Pair,
    digest: Digest,
    tags: Vec<Tag>,
}

/// The selected images of one repository. Tags of one image go together, so that it is compared once.
async fn plan(copier: &Copier, selected: &Selected<'_>, from: RepositoryName) -> Vec<Work> {
    let failed = |error: String| vec![Work::Failed(format!("{from}: {error}"))];
    let to = match selected.destination(&from) {
        Ok(to) => to,
        Err(error) => return failed(error),
    };
    let tags: BTreeSet<Tag> = match copier.source.tags(&from).await {
        Ok(tags) => tags.into_iter().collect(),
        Err(error) => return failed(error.to_string()),
    };
    let images = tags.iter().filter(|tag| !attachments::is_attachment(tag) && selected.tag(&from, tag));
    let resolved: Vec<_> = stream::iter(images)
        .map(|tag| async {
            let reference = Reference::Tag(tag.clone());
            (tag.clone(), copier.source.manifest_digest(&from, &reference).await)
        })
        .buffer_unordered(TAGS)
        .collect()
        .await;
    let pair = Pair { attachments: tags.into_iter().filter(attachments::is_attachment).collect(), from, to };
    let mut work = Vec::new();
    let mut images: BTreeMap<Digest, Vec<Tag>> = BTreeMap::new();
    for (tag, digest) in resolved {
        match digest {
            Ok(digest) => images.entry(digest).or_default().push(tag),
            // Deleted since it was listed: nothing to bring.
            Err(ClientError::NotFound { .. }) => {}
            Err(error) => work.push(Work::Failed(format!("{}:{tag}: {error}", pair.from))),
        }
    }
    work.extend(images.into_iter().map(|(digest, tags)| {
        let pair = pair.clone();
        Work::Image(Image { pair, digest, tags })
    }));
    work
}

/// The image by digest, then what refers to it, and its tags last: whoever finds the tag finds everything.
async fn bring(copier: &Copier, image: Image) -> Vec<Outcome> {
    let Image { pair, digest, tags } = &image;
    let named = |tag: &Tag, error: &dyn std::fmt::Display| format!("{}:{tag}: {error}", pair.from);
    let content = async {
        copier.manifest(pair, digest, 0).await?;
        copier.attachments_of_image(pair, digest).await
    };
    let attached = match content.await {
        Ok(attached) => attached,
        Err(error) => return tags.iter().map(|tag| Err(named(tag, &error))).collect(),
    };
    let mut outcomes = Vec::new();
    for tag in tags {
        let moved = copier.tag(pair, tag, digest).await;
        outcomes.push(match moved {
            Ok(moved) if moved || attached => Ok(Change::Copied),
            Ok(_) => Ok(Change::Unchanged),
            Err(error) => Err(named(tag, &error)),
        });
    }
    outcomes
}
