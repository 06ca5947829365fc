//! From an image's name to facts about it: resolved once, all evidence for that digest fetched, each signature looked
//! at. The one way that the webhook and the command line take, so that both see the same.

use berth_registry_core::{Digest, ImageReference};
use berth_trust::{Anchors, Bounds, BoundsExceeded, Facts};

use crate::{
    client::Client,
    error::ClientError,
    evidence::{fetch_evidence, fetch_for},
};

/// Why nothing is known about an image; the image itself has no part in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExamineError {
    /// The registry gave no answer, or not the one asked for.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// There is more evidence than is looked at.
    #[error(transparent)]
    TooMuch(#[from] BoundsExceeded),
}

impl ExamineError {
    /// Stable name for conditions, events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Client(error) => error.reason(),
            Self::TooMuch(_) => "TooMuchEvidence",
        }
    }

    /// Whether the same question may be answered a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Client(error) => error.is_transient(),
            Self::TooMuch(_) => false,
        }
    }
}

/// The facts about the digest that `image` names now, established with `anchors`. `None`: the registry answered, and has
/// no such image.
pub async fn examine(
    client: &Client,
    image: &ImageReference,
    anchors: &Anchors,
    bounds: &Bounds,
) -> Result<Option<Facts>, ExamineError> {
    let Some(evidence) = fetch_for(client, image, bounds).await? else { return Ok(None) };
    Ok(Some(Facts::establish(&evidence, anchors, bounds)?))
}

/// The facts about one digest in the repository of `image`, whatever else the image names.
pub async fn examine_digest(
    client: &Client,
    image: &ImageReference,
    digest: &Digest,
    anchors: &Anchors,
    bounds: &Bounds,
) -> Result<Facts, ExamineError> {
    let evidence = fetch_evidence(client, &image.repository, digest, bounds).await?;
    Ok(Facts::establish(&evidence, anchors, bounds)?)
}
