//! Decisions that somebody may ask about later: everything that a verdict was made from, small enough for an annotation of
//! an Event. The webhook writes what it complained of; `kubectl berth why` reads it and comes to the same verdict again,
//! byte for byte, with the same code.

use std::{
    collections::BTreeMap,
    fmt,
    io::{Read as _, Write as _},
    str::FromStr,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use berth_crds::ImagePolicySpec;
use berth_registry_core::{Digest, ImageReference, reference::InvalidImageReference};
use berth_trust::{Facts, Policy, Verdict};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    admission::Finding,
    image_policy::{InvalidPolicy, Material, Rules},
};

/// The annotation of an Event that holds a decision.
pub const ANNOTATION: &str = "berth.dev/decision";

/// Before the id in the name of an Event.
const EVENT: &str = "berth-decision-";

/// The longest annotation, in bytes; all annotations of an object together may have 256 KiB.
const MAX_ENCODED: usize = 192 * 1024;

/// The most that an annotation may unpack to, in bytes. More than any decision needs, and no harm to memory.
const MAX_DECODED: u64 = 16 * 1024 * 1024;

/// Digits of an id.
const DIGITS: usize = 12;

/// What a look at the registry of an image came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Look {
    /// What is known about the digest.
    Seen(Facts),
    /// The registry answered, and has no such image.
    NoSuchImage,
    /// Nobody looked: the policy decides by the name.
    NotNeeded,
    /// Nothing is known, and the image has no part in it.
    Unseen {
        /// Stable name.
        reason: String,
        /// For people.
        message: String,
        /// Whether asking again may help.
        transient: bool,
    },
}

impl Look {
    /// The digest that is known about.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            Self::Seen(facts) => Some(facts.subject()),
            Self::NoSuchImage | Self::NotNeeded | Self::Unseen { .. } => None,
        }
    }

    /// What a policy says about an image of which this was seen, and until when it says so.
    pub fn finding(
        &self,
        policy: &Policy,
        image: &ImageReference,
        now: Timestamp,
    ) -> (Finding, Option<Timestamp>) {
        // What takes no evidence does not suffer from its absence.
        if let Some(judgement) = policy.settled(image, None, now) {
            let digest = image.digest.clone();
            return (Finding { verdict: judgement.verdict, digest }, judgement.until);
        }
        match self {
            Self::Seen(facts) => {
                let judgement = policy.verdict(image, facts, now);
                let digest = Some(facts.subject().clone());
                (Finding { verdict: judgement.verdict, digest }, judgement.until)
            }
            Self::NoSuchImage => (Finding { verdict: Verdict::image_not_found(), digest: None }, None),
            Self::NotNeeded => (Finding::uncheckable("NoEvidence", "no evidence was looked at", true), None),
            Self::Unseen { reason, message, transient } => {
                (Finding::uncheckable(reason, message, *transient), None)
            }
        }
    }
}

/// A verdict with everything that it was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Decision {
    /// `NAMESPACE/NAME`.
    pub policy: String,
    /// The policy as it was.
    pub spec: ImagePolicySpec,
    /// What its Secrets held that is public.
    pub secrets: BTreeMap<String, Material>,
    /// In its normal form.
    pub image: String,
    /// What was known about it.
    pub look: Look,
    /// When it was judged.
    pub now: Timestamp,
    /// The verdict's stable name.
    pub reason: String,
    /// The verdict's words.
    pub message: String,
}

/// Names a decision: a hash of all of it but the time, so that the same denial an hour later is the same decision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecisionId(String);

/// What came out of judging again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The verdict's stable name.
    pub reason: String,
    /// The verdict's words.
    pub message: String,
}

/// Why there is no decision.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    /// More than an annotation takes.
    #[error("the decision takes {size} bytes, more than the {MAX_ENCODED} that an annotation may have")]
    TooLarge {
        /// What it would have taken.
        size: usize,
    },
    /// Not what [`Decision::encode`] wrote.
    #[error("the record of the decision cannot be read: {0}; was it made by a newer operator?")]
    Malformed(String),
    /// The content is not what the id stands for.
    #[error("the record was altered: its content is that of the decision {actual}, not of {expected}")]
    Altered {
        /// The id that was asked for.
        expected: DecisionId,
        /// That of the content.
        actual: DecisionId,
    },
    /// Its image is none.
    #[error(transparent)]
    Image(#[from] InvalidImageReference),
    /// The policy could not judge.
    #[error("the policy cannot be read any more: {0}")]
    Policy(#[from] InvalidPolicy),
}

/// A text that names no decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a decision is named by {DIGITS} digits of 0-9 and a-f")]
pub struct InvalidDecisionId;

impl DecisionId {
    /// The name of the Event that keeps the decision.
    pub fn event_name(&self) -> String {
        format!("{EVENT}{self}")
    }

    /// The id in the name of an Event; none if it keeps no decision.
    pub fn of_event(name: &str) -> Option<Self> {
        name.strip_prefix(EVENT)?.parse().ok()
    }
}

impl FromStr for DecisionId {
    type Err = InvalidDecisionId;

    fn from_str(text: &str) -> Result<Self, InvalidDecisionId> {
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if digits && text.len() == DIGITS { Ok(Self(text.to_owned())) } else { Err(InvalidDecisionId) }
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Decision {
    /// What is decided by `spec` with its `secrets` about an image of which `look` was seen. An error if the policy is
    /// not in order: what it says then does not depend on the image.
    pub fn new(
        policy: &str,
        spec: &ImagePolicySpec,
        secrets: &BTreeMap<String, Material>,
        image: &ImageReference,
        look: Look,
        now: Timestamp,
    ) -> Result<Self, InvalidPolicy> {
        let Replay { reason, message } = judge(spec, secrets, image, &look, now)?;
        Ok(Self {
            policy: policy.to_owned(),
            spec: spec.clone(),
            secrets: secrets.clone(),
            image: image.to_string(),
            look,
            now,
            reason,
            message,
        })
    }

    /// What it is called.
    pub fn id(&self) -> DecisionId {
        let timeless = Self { now: Timestamp::UNIX_EPOCH, ..self.clone() };
        // Serializing these types cannot fail; maps are sorted, so the bytes are the same each time.
        let bytes = serde_json::to_vec(&timeless).unwrap_or_default();
        let digest = Digest::sha256(&bytes).to_string();
        DecisionId(digest.split(':').nth(1).unwrap_or_default().chars().take(DIGITS).collect())
    }

    /// As the value of [`ANNOTATION`]: JSON, gzip, base64.
    pub fn encode(&self) -> Result<String, DecisionError> {
        let malformed = |error: &dyn fmt::Display| DecisionError::Malformed(error.to_string());
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        serde_json::to_writer(&mut packed, self).map_err(|error| malformed(&error))?;
        packed.flush().map_err(|error| malformed(&error))?;
        let encoded = BASE64_STANDARD.encode(packed.finish().map_err(|error| malformed(&error))?);
        let size = encoded.len();
        if size > MAX_ENCODED { Err(DecisionError::TooLarge { size }) } else { Ok(encoded) }
    }

    /// Reads the value of [`ANNOTATION`] of the decision `id`.
    pub fn decode(id: &DecisionId, annotation: &str) -> Result<Self, DecisionError> {
        let malformed = |error: &dyn fmt::Display| DecisionError::Malformed(error.to_string());
        let packed = BASE64_STANDARD.decode(annotation).map_err(|error| malformed(&error))?;
        let mut bytes = Vec::new();
        GzDecoder::new(packed.as_slice())
            .take(MAX_DECODED + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| malformed(&error))?;
        if bytes.len() as u64 > MAX_DECODED {
            return Err(malformed(&format_args!("it unpacks to more than {MAX_DECODED} bytes")));
        }
        let decision: Self = serde_json::from_slice(&bytes).map_err(|error| malformed(&error))?;
        let actual = decision.id();
        if actual == *id {
            Ok(decision)
        } else {
            Err(DecisionError::Altered { expected: id.clone(), actual })
        }
    }

    /// Judges again what is recorded, as of then.
    pub fn replay(&self) -> Result<Replay, DecisionError> {
        self.replay_at(self.now)
    }

    /// Judges again what is recorded, as of another time.
    pub fn replay_at(&self, now: Timestamp) -> Result<Replay, DecisionError> {
        let image = self.image.parse()?;
        Ok(judge(&self.spec, &self.secrets, &image, &self.look, now)?)
    }

    /// Whether an outcome of judging again is what was said then.
    pub fn agrees(&self, replay: &Replay) -> bool {
        (&self.reason, &self.message) == (&replay.reason, &replay.message)
    }
}

fn judge(
    spec: &ImagePolicySpec,
    secrets: &BTreeMap<String, Material>,
    image: &ImageReference,
    look: &Look,
    now: Timestamp,
) -> Result<Replay, InvalidPolicy> {
    let policy = Rules::new(spec, secrets).policy?;
    let (Finding { verdict, digest }, _) = look.finding(&policy, image, now);
    Ok(Replay { reason: verdict.reason().to_owned(), message: verdict.explain(image, digest.as_ref()) })
}

#[cfg(test)]
mod tests;
