//! Verdicts, and the words for them: what was found, what is missing, how to cure it. Different causes have different
//! words, because different people have to act.

use std::collections::BTreeSet;

use berth_registry_core::{Digest, ImageReference};

use crate::bounds::BoundsExceeded;

/// What a policy says about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The requirements hold.
    Admit {
        /// Names of the authorities whose signatures were found; one with two names appears as `a or b`.
        signed_by: BTreeSet<String>,
    },
    /// They do not hold.
    Deny {
        /// Why, sorted; never empty.
        findings: BTreeSet<Finding>,
    },
    /// Neither: the question could not be answered. Never to be cached.
    CouldNotCheck {
        /// Stable name, for example `ClientError::reason()`.
        reason: String,
        /// For people.
        message: String,
    },
}

/// One thing that speaks against an image. Their order is the order in which they are told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Finding {
    /// The tag or digest does not exist.
    #[error("the registry has no such image")]
    ImageNotFound,
    /// Some, but too few, of the keys have signed.
    #[error("{} of {threshold} required keys signed it: {} did, {} did not", signed.len(), list(signed), list(missing))]
    ThresholdNotMet {
        /// How many keys are needed.
        threshold: usize,
        /// Authorities whose signatures were found.
        signed: BTreeSet<String>,
        /// Authorities whose signatures are missing.
        missing: BTreeSet<String>,
    },
    /// There is no signature at all.
    #[error("no signature was found; a signature by {} is needed", list(wanted))]
    Unsigned {
        /// Authorities that could sign.
        wanted: BTreeSet<String>,
    },
    /// There are signatures, but none of the keys made them.
    #[error(
        "{count} {} found that no key of this policy made (or that was altered); a signature by {} is needed",
        if *count == 1 { "signature was" } else { "signatures were" }, list(wanted)
    )]
    SignedByOtherKey {
        /// How many.
        count: usize,
        /// Authorities that could sign.
        wanted: BTreeSet<String>,
    },
    /// A signature by the right key was attached to the wrong image.
    #[error("the signature by {authority} is for {digest}, another image")]
    SignatureForOtherDigest {
        /// Who signed.
        authority: String,
        /// What was signed.
        digest: Digest,
    },
    /// An attestation or another statement by the right key.
    #[error("what {authority} signed is no image signature but a statement of type {kind:?}")]
    NotASignature {
        /// Who signed.
        authority: String,
        /// Type of the statement.
        kind: String,
    },
    /// Something that looks like a signature and cannot be read.
    #[error("a signature is malformed: {cause}")]
    MalformedEvidence {
        /// Why.
        cause: String,
    },
}

impl Finding {
    /// Stable name for conditions, events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ImageNotFound => "ImageNotFound",
            Self::ThresholdNotMet { .. } => "ThresholdNotMet",
            Self::Unsigned { .. } => "Unsigned",
            Self::SignedByOtherKey { .. } => "SignedByOtherKey",
            Self::SignatureForOtherDigest { .. } => "SignatureForOtherDigest",
            Self::NotASignature { .. } => "NotASignature",
            Self::MalformedEvidence { .. } => "MalformedEvidence",
        }
    }
}

impl Verdict {
    /// The verdict on an image that does not exist.
    pub fn image_not_found() -> Self {
        Self::Deny { findings: BTreeSet::from([Finding::ImageNotFound]) }
    }

    /// Whether the requirements hold.
    pub fn is_admitted(&self) -> bool {
        matches!(self, Self::Admit { .. })
    }

    /// Stable name: `Admitted`, the first finding's, or why it could not be checked.
    pub fn reason(&self) -> &str {
        match self {
            Self::Admit { .. } => "Admitted",
            Self::Deny { findings } => findings.first().map_or("Denied", Finding::reason),
            Self::CouldNotCheck { reason, .. } => reason,
        }
    }

    /// What was found, what is missing and how to cure it, as one line about `image`, whose digest is given if it is
    /// known. Who asked and which policy answers is for the caller to say.
    pub fn explain(&self, image: &ImageReference, digest: Option<&Digest>) -> String {
        match self {
            Self::Admit { signed_by } => format!("{image} is signed by {}", list(signed_by)),
            Self::Deny { findings } if findings.contains(&Finding::ImageNotFound) => {
                format!("{image}: {}; push it first, or correct the name", Finding::ImageNotFound)
            }
            Self::Deny { findings } => {
                let found: Vec<_> = findings.iter().map(ToString::to_string).collect();
                let pinned = digest.map_or_else(|| image.clone(), |digest| image.pinned(digest.clone()));
                format!("{image}: {}; sign it with: cosign sign --key KEY {pinned}", found.join("; "))
            }
            Self::CouldNotCheck { message, .. } => {
                format!(
                    "{image} could not be checked: {message}; this says nothing about the image: try again"
                )
            }
        }
    }
}

impl From<BoundsExceeded> for Verdict {
    fn from(error: BoundsExceeded) -> Self {
        Self::CouldNotCheck { reason: "TooMuchEvidence".to_owned(), message: error.to_string() }
    }
}

fn list(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return "nobody".to_owned();
    }
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
