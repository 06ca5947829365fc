//! How long what a registry showed is believed.

/// Seconds until something that could not be fetched anew is tried again.
pub(super) const RETRY: i64 = 30;

/// How long what a registry showed is believed, if no event says that it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Terms {
    /// A Registry of this cluster tells when something changes. Looking again only repairs what was lost on the way;
    /// and while the Registry is down, nothing in it changes.
    Own,
    /// Other registries tell nothing: digests keep their facts for minutes, tags are resolved for each review.
    Foreign,
}

impl Terms {
    /// Only Registries of this cluster are asked in the operator's own name, which has no scope.
    pub(super) fn of(scope: &str) -> Self {
        if scope.is_empty() { Self::Own } else { Self::Foreign }
    }

    /// So many seconds without a doubt. Then it is fetched anew behind the scenes, once it is used.
    pub(super) fn fresh(self) -> i64 {
        match self {
            Self::Own => 5 * 60,
            Self::Foreign => 2 * 60,
        }
    }

    /// So many seconds at most, should the registry not answer.
    pub(super) fn kept(self) -> i64 {
        match self {
            Self::Own => 24 * 3600,
            Self::Foreign => 5 * 60,
        }
    }
}

/// Whether something in memory may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belief<T> {
    /// Not known, not any more, or of before a change.
    None,
    /// Known from before a restart: a change may have been missed. It counts only if the registry cannot be asked.
    Doubtful(T),
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
            Self::Doubtful(known) => Belief::Doubtful(make(known)),
            Self::Sure(known) => Belief::Sure(make(known)),
            Self::Due(known) => Belief::Due(make(known)),
        }
    }

    /// What is known, however surely.
    pub fn known(self) -> Option<T> {
        match self {
            Self::None => None,
            Self::Doubtful(known) | Self::Sure(known) | Self::Due(known) => Some(known),
        }
    }
}
