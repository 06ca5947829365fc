//! Spans of time: when certificates are valid, and when something can have happened.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use x509_parser::certificate;

/// A span of time, both ends belong to it. It is empty when it ends before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Validity {
    /// The first moment.
    pub from: Timestamp,
    /// The last moment.
    pub until: Timestamp,
}

impl Validity {
    /// One moment.
    pub(crate) fn at(time: Timestamp) -> Self {
        Self { from: time, until: time }
    }

    /// Whether the whole of `span` lies in this one.
    pub fn contains(&self, span: Self) -> bool {
        self.from <= span.from && span.until <= self.until
    }

    /// What lies in both.
    pub(crate) fn common(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), until: self.until.min(other.until) }
    }
}

impl TryFrom<&certificate::Validity> for Validity {
    type Error = jiff::Error;

    fn try_from(validity: &certificate::Validity) -> Result<Self, jiff::Error> {
        let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp());
        Ok(Self { from: time(validity.not_before)?, until: time(validity.not_after)? })
    }
}
