//! How long what a registry showed is believed.

use std::time::Duration;

/// Seconds until something that could not be fetched anew is tried again.
pub(super) const RETRY: i64 = 30;

/// How long what a registry showed is believed, if no event says that it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// So long without a doubt. Then it is fetched anew behind the scenes, once it is used.
    pub fresh: Duration,
    /// So long at most, should the registry not answer.
    pub kept: Duration,
    /// Whether it is remembered where tags point.
    pub tags: bool,
}

impl Terms {
    /// A Registry of this cluster tells when something changes. Looking again only repairs what was lost on the way;
    /// and while the Registry is down, nothing in it changes.
    pub const OWN: Self = Self { fresh: Duration::from_mins(5), kept: Duration::from_hours(24), tags: true };

    /// Other registries tell nothing: digests keep their facts for minutes, tags are resolved for each review.
    pub const FOREIGN: Self =
        Self { fresh: Duration::from_mins(2), kept: Duration::from_mins(5), tags: false };
}

/// Whether something in memory may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belief<T> {
    /// Not known, not any more, or of before a change.
    None,
    /// Known.
    Sure(T),
    /// Known, and the caller, who alone is told so, is to fetch it anew.
    Due(T),
}

impl<T> Belief<T> {
    /// The same belief in something else.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Belief<U> {
        match self {
            Self::None => Belief::None,
            Self::Sure(known) => Belief::Sure(make(known)),
            Self::Due(known) => Belief::Due(make(known)),
        }
    }
}
