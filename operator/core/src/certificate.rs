//! When certificates are made anew (kubernetes conventions, "TLS"). Pure: the caller reads certificates and the clock.
//! A new authority is published beside the old one before anything is signed with it, so that no client ever meets a
//! certificate that it cannot trust yet.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::registry::host;

/// How long an authority lives.
pub const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// How long a server's certificate lives.
pub const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How long a new authority is known before it signs.
pub const ANNOUNCEMENT: SignedDuration = SignedDuration::from_hours(24);
/// Certificates begin so long in the past, for clients whose clocks are slow.
pub const BACKDATE: SignedDuration = SignedDuration::from_hours(1);

/// When a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First instant.
    pub not_before: Timestamp,
    /// Last instant.
    pub not_after: Timestamp,
}

impl Validity {
    /// Beginning now, for so long. `None` past the end of the calendar.
    pub fn starting(now: Timestamp, life: SignedDuration) -> Option<Self> {
        Some(Self { not_before: now.checked_sub(BACKDATE).ok()?, not_after: now.checked_add(life).ok()? })
    }

    /// After two thirds of its life.
    pub fn renew_at(&self) -> Timestamp {
        let life = self.not_after.duration_since(self.not_before);
        self.not_before.checked_add(life / 3 * 2).unwrap_or(self.not_after)
    }

    /// Whether it can still be used at `now`.
    pub fn covers(&self, now: Timestamp) -> bool {
        self.not_before <= now && now < self.not_after
    }
}

/// What is to be done about the authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorityStep {
    /// Nothing.
    Keep,
    /// Make one and use it at once: there is none that anybody could trust.
    Create,
    /// Make the next one and publish it beside the one in use.
    Announce,
    /// Sign with the next one from now on; the old one stays trusted until it expires.
    Promote,
}

/// Decides about the authority, by the one in use and the next one, if it was announced.
pub fn authority_step(active: Option<Validity>, next: Option<Validity>, now: Timestamp) -> AuthorityStep {
    let usable = active.filter(|active| active.covers(now));
    match (usable, next.filter(|next| next.covers(now))) {
        (None, None) => AuthorityStep::Create,
        (None, Some(_)) => AuthorityStep::Promote,
        (Some(active), None) if now >= active.renew_at() => AuthorityStep::Announce,
        (Some(_), Some(next)) => {
            let known_since = next.not_before.checked_add(BACKDATE).unwrap_or(next.not_before);
            if now.duration_since(known_since) >= ANNOUNCEMENT {
                AuthorityStep::Promote
            } else {
                AuthorityStep::Keep
            }
        }
        (Some(_), None) => AuthorityStep::Keep,
    }
}

/// What is known of a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// When it is good.
    pub validity: Validity,
    /// The DNS names that it is for.
    pub names: BTreeSet<String>,
    /// Whether the authority in use has signed it.
    pub signed_by_active: bool,
}

/// Why a server's certificate is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// There is none, or it cannot be read.
    Missing,
    /// It is for other names.
    NamesChanged,
    /// The authority has changed.
    AuthorityChanged,
    /// Two thirds of its life are over.
    Due,
}

/// Decides about a server's certificate.
pub fn leaf_renewal(leaf: Option<&Leaf>, names: &BTreeSet<String>, now: Timestamp) -> Option<Renewal> {
    match leaf {
        None => Some(Renewal::Missing),
        Some(leaf) if leaf.names != *names => Some(Renewal::NamesChanged),
        Some(leaf) if !leaf.signed_by_active => Some(Renewal::AuthorityChanged),
        Some(leaf) if now >= leaf.validity.renew_at() || !leaf.validity.covers(now) => Some(Renewal::Due),
        Some(_) => None,
    }
}

/// The DNS names under which a Service is reached inside the cluster.
pub fn service_names(namespace: &str, service: &str) -> BTreeSet<String> {
    [host(namespace, service), format!("{service}.{namespace}.svc"), service.to_owned()].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn day(n: i32) -> Timestamp {
        "2030-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + DAY * n
    }

    fn days(from: i32, to: i32) -> Validity {
        Validity { not_before: day(from), not_after: day(to) }
    }

    #[rstest]
    #[case::none(None, None, 0, AuthorityStep::Create)]
    #[case::fresh(Some((0, 90)), None, 1, AuthorityStep::Keep)]
    #[case::before_two_thirds(Some((0, 90)), None, 59, AuthorityStep::Keep)]
    #[case::two_thirds(Some((0, 90)), None, 60, AuthorityStep::Announce)]
    #[case::just_announced(Some((0, 90)), Some((60, 150)), 60, AuthorityStep::Keep)]
    #[case::known_for_a_day(Some((0, 90)), Some((60, 150)), 62, AuthorityStep::Promote)]
    #[case::slept_through(Some((0, 90)), None, 91, AuthorityStep::Create)]
    #[case::slept_after_announcement(Some((0, 90)), Some((60, 150)), 91, AuthorityStep::Promote)]
    #[case::next_is_over_too(Some((0, 90)), Some((0, 90)), 91, AuthorityStep::Create)]
    fn authorities(
        #[case] active: Option<(i32, i32)>,
        #[case] next: Option<(i32, i32)>,
        #[case] today: i32,
        #[case] step: AuthorityStep,
    ) {
        let validity = |life: Option<(i32, i32)>| life.map(|(from, to)| days(from, to));
        assert_eq!(authority_step(validity(active), validity(next), day(today)), step);
    }

    #[rstest]
    #[case::fresh("registry", true, 1, None)]
    #[case::two_thirds("registry", true, 60, Some(Renewal::Due))]
    #[case::expired("registry", true, 100, Some(Renewal::Due))]
    #[case::not_yet_good("registry", true, -1, Some(Renewal::Due))]
    #[case::renamed("other", true, 1, Some(Renewal::NamesChanged))]
    #[case::promoted("registry", false, 1, Some(Renewal::AuthorityChanged))]
    fn leaves(
        #[case] name: &str,
        #[case] signed_by_active: bool,
        #[case] today: i32,
        #[case] renewal: Option<Renewal>,
    ) {
        let leaf =
            Leaf { validity: days(0, 90), names: service_names("team-a", "registry"), signed_by_active };
        assert_eq!(leaf_renewal(Some(&leaf), &service_names("team-a", name), day(today)), renewal);
        assert_eq!(leaf_renewal(None, &leaf.names, day(today)), Some(Renewal::Missing));
    }
}
