//! All cases, from the file of each subject, and who is asked to pass which.

use crate::case::{Case, Scope};
use crate::{
    conditional, discovery, errors, immutable, limits, management, manifests, mount, pull, push, ranges,
    referrers, refusals, sessions, sha512, sparse,
};

fn all() -> impl Iterator<Item = &'static Case> {
    [
        pull::CASES,
        ranges::CASES,
        push::CASES,
        sessions::CASES,
        sha512::CASES,
        mount::CASES,
        manifests::CASES,
        conditional::CASES,
        refusals::CASES,
        discovery::CASES,
        referrers::CASES,
        management::CASES,
        errors::CASES,
        limits::CASES,
        sparse::CASES,
        immutable::CASES,
    ]
    .into_iter()
    .flatten()
}

/// The cases of these scopes.
pub(crate) fn in_scope(scopes: &[Scope]) -> impl Iterator<Item = &'static Case> {
    all().filter(move |case| scopes.contains(&case.scope))
}
