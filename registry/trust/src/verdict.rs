//! Verdicts, and the words for them: what was found, what is missing, how to cure it. Different causes have different
//! words, because different people have to act.

use std::{collections::BTreeSet, fmt};

use berth_registry_core::{Digest, ImageReference};
use jiff::Timestamp;
use serde::Serialize;

use crate::bounds::BoundsExceeded;

/// A verdict, and how long it can be relied on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// What the policy says.
    pub verdict: Verdict,
    /// The first instant at which the same facts could give another verdict; never, if there is none.
    pub until: Option<Timestamp>,
}

/// What a policy says about an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// The requirements hold.
    Admit {
        /// Why; empty where the policy asks for nothing.
        grounds: BTreeSet<Ground>,
    },
    /// They were not asked, because somebody answers for the image.
    Excepted {
        /// Why.
        reason: String,
        /// Who.
        owner: String,
        /// How long.
        expires: Timestamp,
    },
    /// They do not hold.
    Deny {
        /// Why, sorted; never empty.
        findings: BTreeSet<Finding>,
        /// What to do about it.
        cures: BTreeSet<Cure>,
    },
    /// Neither: the question could not be answered. Never to be cached.
    CouldNotCheck {
        /// Stable name, for example `ClientError::reason()`.
        reason: String,
        /// For people.
        message: String,
        /// Whether the same question may be answered a moment later.
        transient: bool,
    },
}

/// What a requirement asks somebody to state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    /// That the image is theirs.
    Signature,
    /// Something of this predicate type.
    Attestation(String),
}

impl What {
    /// Without an article.
    fn noun(&self) -> String {
        match self {
            Self::Signature => "signature".to_owned(),
            Self::Attestation(kind) => format!("attestation of type {kind}"),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let article = if *self == Self::Signature { "a" } else { "an" };
        write!(f, "{article} {}", self.noun())
    }
}

/// One thing that speaks for an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Ground {
    /// Somebody stated what was asked for.
    Stated {
        /// What was asked for.
        what: What,
        /// The authority; a signer that can stand for two appears as `a or b`.
        by: String,
        /// The index above the image that it was stated about; none if it was stated about the image itself.
        index: Option<Digest>,
    },
    /// The object names it by digest.
    NamedByDigest,
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stated { what: What::Signature, by, .. } => write!(f, "is signed by {by}")?,
            Self::Stated { what, by, .. } => write!(f, "has {what} by {by}")?,
            Self::NamedByDigest => f.write_str("is named by digest")?,
        }
        match self {
            Self::Stated { index: Some(index), .. } => write!(f, " (as part of {index})"),
            _ => Ok(()),
        }
    }
}

/// One thing that speaks against an image. Their order is the order in which they are told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
pub enum Finding {
    /// The tag or digest does not exist.
    #[error("the registry has no such image")]
    ImageNotFound,
    /// The policy allows only what it lists.
    #[error("it is none of the images that the policy allows: {}", list(images))]
    NotListed {
        /// Their patterns.
        images: BTreeSet<String>,
    },
    /// A tag can be moved.
    #[error("it is named by a tag, and must be named by digest")]
    NotNamedByDigest,
    /// Somebody whose word counts says something that must not be.
    #[error("the {} by {authority} forbids it: {condition} does not hold{cause}", what.noun())]
    ConditionNotMet {
        /// Who said it.
        authority: String,
        /// What was asked for.
        what: What,
        /// As the policy writes it.
        condition: String,
        /// What went wrong when it was looked at; empty if it is merely false.
        cause: String,
    },
    /// Some, but too few, have stated it.
    #[error(
        "{threshold} authorities must each give {what}, by signers of their own: there is one by {}, and none by {}",
        list(signed),
        list(missing)
    )]
    ThresholdNotMet {
        /// What was asked for.
        what: What,
        /// How many are needed.
        threshold: usize,
        /// Authorities that were heard.
        signed: BTreeSet<String>,
        /// Authorities that were not.
        missing: BTreeSet<String>,
    },
    /// There is nothing at all.
    #[error("no {} was found; {what} by {} is needed", what.noun(), list(wanted))]
    Missing {
        /// What was asked for.
        what: What,
        /// Authorities that could give it.
        wanted: BTreeSet<String>,
    },
    /// There is something, by somebody else.
    #[error(
        "{count} signed {} found that no authority of this policy made (or that was altered); {what} by {} is needed",
        if *count == 1 { "statement was" } else { "statements were" }, list(wanted)
    )]
    UnknownSigner {
        /// How many.
        count: usize,
        /// What was asked for.
        what: What,
        /// Authorities that could give it.
        wanted: BTreeSet<String>,
    },
    /// Somebody is vouched for whom the policy does not name.
    #[error("it is signed by {signer}, who is no authority of this policy")]
    OtherSigner {
        /// Who signed.
        signer: String,
    },
    /// A signature that may have been meant does not count.
    #[error("a signature was found, but {cause}")]
    SignatureRefused {
        /// Why, and what to do about it.
        cause: String,
    },
    /// The right authority signed the wrong image.
    #[error("what {authority} signed is {digest}, another image")]
    OtherDigest {
        /// Who signed.
        authority: String,
        /// What was signed.
        digest: Digest,
    },
    /// The right authority stated something else.
    #[error("what {authority} signed is a statement of type {kind}, not {what}")]
    OtherStatement {
        /// Who signed.
        authority: String,
        /// Its type.
        kind: String,
        /// What was asked for.
        what: What,
    },
    /// Somebody trusted must say when it signed, and nobody does.
    #[error("nothing that is trusted proves when {authority} signed: {cause}")]
    NotProven {
        /// Who signed.
        authority: String,
        /// Why not.
        cause: String,
    },
    /// The signer limited its word.
    #[error("the signature by {authority} expired {end}")]
    Expired {
        /// Who signed.
        authority: String,
        /// The first instant at which it no longer counts.
        end: Timestamp,
    },
    /// Nothing proves when it was signed, and the certificates are not valid now.
    #[error(
        "the certificates of {authority} are valid from {from} to {end}, and nothing proves that it signed then"
    )]
    CertificateNotValid {
        /// Who signed.
        authority: String,
        /// The first instant at which they are valid.
        from: Timestamp,
        /// The first at which they no longer are.
        end: Timestamp,
    },
    /// The authority is out of office.
    #[error("the word of {authority} counts only if it provably came before {end}")]
    AuthorityEnded {
        /// Who signed.
        authority: String,
        /// The first instant at which it no longer counts.
        end: Timestamp,
    },
    /// Age counts, and the signing time is yet to come.
    #[error("the statement by {authority} is dated {signed}, which is in the future")]
    SignedInFuture {
        /// Who signed.
        authority: String,
        /// When, as far as is known.
        signed: Timestamp,
    },
    /// It counted once.
    #[error("the statement by {authority} is of {signed} and counted until {end}")]
    TooOld {
        /// Who signed.
        authority: String,
        /// When.
        signed: Timestamp,
        /// The first instant at which it no longer counts.
        end: Timestamp,
    },
    /// Age counts, and nothing that others could not have renewed says when it was signed.
    #[error(
        "the statement by {authority} does not itself say when it was made, and the policy limits the age"
    )]
    NoSigningTime {
        /// Who signed.
        authority: String,
    },
    /// Something that looks like a statement and cannot be read.
    #[error("a signed statement is malformed: {cause}")]
    MalformedEvidence {
        /// Why.
        cause: String,
    },
    /// Somebody answered for the image, and no longer does.
    #[error("the exception of {owner} ended {expired}")]
    ExceptionExpired {
        /// Who answered for it.
        owner: String,
        /// Until when.
        expired: Timestamp,
    },
}

impl Finding {
    /// Stable name for conditions, events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ImageNotFound => "ImageNotFound",
            Self::NotListed { .. } => "NotListed",
            Self::NotNamedByDigest => "NotNamedByDigest",
            Self::ConditionNotMet { .. } => "ConditionNotMet",
            Self::ThresholdNotMet { .. } => "ThresholdNotMet",
            Self::Missing { what: What::Signature, .. } => "Unsigned",
            Self::Missing { what: What::Attestation(_), .. } => "Unattested",
            Self::UnknownSigner { .. } => "UnknownSigner",
            Self::OtherSigner { .. } => "OtherSigner",
            Self::SignatureRefused { .. } => "SignatureRefused",
            Self::OtherDigest { .. } => "OtherDigest",
            Self::OtherStatement { what: What::Signature, .. } => "NotASignature",
            Self::OtherStatement { what: What::Attestation(_), .. } => "OtherPredicateType",
            Self::NotProven { .. } => "NotProven",
            Self::Expired { .. } => "Expired",
            Self::CertificateNotValid { .. } => "CertificateNotValid",
            Self::AuthorityEnded { .. } => "AuthorityEnded",
            Self::SignedInFuture { .. } => "SignedInFuture",
            Self::TooOld { .. } => "TooOld",
            Self::NoSigningTime { .. } => "NoSigningTime",
            Self::MalformedEvidence { .. } => "MalformedEvidence",
            Self::ExceptionExpired { .. } => "ExceptionExpired",
        }
    }
}

/// How an authority signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Way {
    /// With a key of its own.
    Key,
    /// With an identity.
    Keyless,
    /// With a certificate of its own.
    Certificate,
    /// With a certificate, as the Notary Project has it. It has no attestations.
    Notation,
}

impl Way {
    /// The program and its flags, up to the image; `act` is `sign` or `attest`.
    fn command(self, act: &str) -> String {
        match self {
            Self::Key => format!("cosign {act} --key KEY"),
            Self::Keyless => format!("cosign {act}"),
            Self::Certificate => {
                format!("cosign {act} --key KEY --certificate FILE --certificate-chain FILE")
            }
            Self::Notation => format!("notation {act}"),
        }
    }
}

/// Something to do about a denial.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Cure {
    /// Upload it, or spell it right.
    Push,
    /// Take another image.
    UseListed,
    /// Name the digest.
    Pin,
    /// Sign it.
    Sign(Way),
    /// Attest something of this type about it.
    Attest(Way, String),
    /// Nothing that can be added to this image helps.
    Rebuild,
}

impl Cure {
    /// To have somebody state what was asked for.
    pub(crate) fn state(what: &What, way: Way) -> Self {
        match what {
            What::Signature => Self::Sign(way),
            What::Attestation(kind) => Self::Attest(way, kind.clone()),
        }
    }

    /// For people; `image` is named by digest if that is known.
    fn words(&self, image: &ImageReference) -> String {
        match self {
            Self::Push => "push it first, or correct the name".to_owned(),
            Self::UseListed => "take one of those, or have it added to the policy".to_owned(),
            Self::Pin => format!("name it by digest: {image}"),
            Self::Sign(way) => format!("sign it with: {} {image}", way.command("sign")),
            Self::Attest(way, kind) => {
                let command = way.command("attest");
                format!("attest it with: {command} --type {kind} --predicate FILE {image}")
            }
            Self::Rebuild => "build an image for which it holds".to_owned(),
        }
    }
}

impl Verdict {
    /// The verdict on an image that does not exist.
    pub fn image_not_found() -> Self {
        Self::Deny { findings: BTreeSet::from([Finding::ImageNotFound]), cures: BTreeSet::from([Cure::Push]) }
    }

    /// Neither yes nor no. `reason` is a stable name; `transient` if asking again a moment later may help.
    pub fn could_not_check(reason: &str, message: impl fmt::Display, transient: bool) -> Self {
        Self::CouldNotCheck { reason: reason.to_owned(), message: message.to_string(), transient }
    }

    /// Whether nothing stands in the image's way.
    pub fn is_admitted(&self) -> bool {
        matches!(self, Self::Admit { .. } | Self::Excepted { .. })
    }

    /// Stable name: `Admitted`, `Excepted`, the first finding's, or why it could not be checked.
    pub fn reason(&self) -> &str {
        match self {
            Self::Admit { .. } => "Admitted",
            Self::Excepted { .. } => "Excepted",
            Self::Deny { findings, .. } => findings.first().map_or("Denied", Finding::reason),
            Self::CouldNotCheck { reason, .. } => reason,
        }
    }

    /// What was found, what is missing and how to cure it, as one line about `image`, whose digest is given if it is
    /// known. Who asked and which policy answers is for the caller to say.
    pub fn explain(&self, image: &ImageReference, digest: Option<&Digest>) -> String {
        match self {
            Self::Admit { grounds } if grounds.is_empty() => format!("{image} is allowed by name"),
            Self::Admit { grounds } => format!("{image} {}", joined(grounds, " and ")),
            Self::Excepted { reason, owner, expires } => {
                format!("{image} is excepted until {expires} by {owner}: {reason}")
            }
            Self::Deny { findings, cures } => {
                let pinned = digest.map_or_else(|| image.clone(), |digest| image.pinned(digest.clone()));
                let cures: Vec<_> = cures.iter().map(|cure| cure.words(&pinned)).collect();
                let cures = joined(&cures, "; ");
                format!("{image}: {}; {cures}", joined(findings, "; "))
            }
            Self::CouldNotCheck { message, transient, .. } => {
                let retry = if *transient { ": try again" } else { "" };
                format!("{image} could not be checked: {message}; this says nothing about the image{retry}")
            }
        }
    }
}

impl From<BoundsExceeded> for Verdict {
    fn from(error: BoundsExceeded) -> Self {
        let cure = "remove what refers to it and is not needed";
        Self::could_not_check("TooMuchEvidence", format_args!("{error}: {cure}"), false)
    }
}

fn list(names: &BTreeSet<String>) -> String {
    if names.is_empty() { "another signer".to_owned() } else { joined(names, ", ") }
}

fn joined<T: fmt::Display>(items: impl IntoIterator<Item = T>, separator: &str) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(separator)
}
