//! When a Registry that is ready is asked what only its servers know: how much it holds, and whether its store takes
//! writes. A collection counts, once a night, and servers tell when their store changes its mind; so an idle Registry is
//! asked after that, and a few times a day in case something was missed.

use std::time::Duration;

use berth_crds::{RegistryStatus, registry::StorageStatus};
use berth_registry_core::usage::Totals;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{jobs::own_number, status::Unready};
use crate::objects::Owner;

const EACH: Duration = Duration::from_hours(6);
/// Spreads the questions to many Registries that were first asked at once.
const SPREAD_SECONDS: u32 = 3600;
/// While a store refuses writes, should the news of its recovery be lost.
const REFUSING: Duration = Duration::from_mins(1);
const FIRST_RETRY: Duration = Duration::from_secs(30);
/// No news make anybody ask more often.
const SHORTEST: Duration = Duration::from_secs(1);

/// What happened that makes a Registry worth asking. Compared, never measured: clocks differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// When the last collection ended.
    pub collected: Option<Timestamp>,
    /// When a server last told that its store began to refuse writes, or takes them again.
    pub store_changed: Option<Timestamp>,
}

impl News {
    /// With what a status says.
    pub fn new(collected: Option<Timestamp>, status: Option<&RegistryStatus>) -> Self {
        let changed = status.and_then(|status| status.store_changed_at.as_ref());
        Self { collected, store_changed: changed.map(|time| time.0) }
    }
}

/// The last question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// When it was put.
    pub at: Timestamp,
    /// What was known then.
    pub news: News,
    /// How many in a row had no answer, this one included.
    pub failures: u32,
    /// Why the store refuses writes, if it does.
    pub refusal: Option<Unready>,
}

/// How long until a Registry is to be asked; zero if that is now.
pub fn wait(asked: Option<&Asked>, news: News, owner: &Owner, now: Timestamp) -> Duration {
    let Some(asked) = asked else { return Duration::ZERO };
    let pause = match asked.failures {
        _ if news != asked.news => SHORTEST,
        _ if asked.refusal.is_some() => REFUSING,
        0 => {
            let own = own_number(&owner.namespace, &owner.name) % SPREAD_SECONDS;
            EACH + Duration::from_secs(own.into())
        }
        n => FIRST_RETRY.saturating_mul(2_u32.saturating_pow(n - 1)).min(EACH),
    };
    let passed = Duration::try_from(now.duration_since(asked.at)).unwrap_or_default();
    pause.saturating_sub(passed)
}

/// Whether the store refuses writes, after its servers were asked: of those that answered, any that says so. `before` is
/// what was known; its words stay as long as the reason does, since a store may put new ones into each of its answers.
pub fn refusal(before: Option<Unready>, answers: Vec<Option<Unready>>) -> Option<Unready> {
    if answers.is_empty() {
        return before;
    }
    let said: Vec<_> = answers.into_iter().flatten().collect();
    let same = before.filter(|before| said.iter().any(|said| said.reason == before.reason));
    same.or_else(|| said.into_iter().next())
}

/// What is shown of an answer.
pub fn shown(totals: &Totals) -> StorageStatus {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    StorageStatus {
        bytes: number(totals.store.bytes()),
        repositories: number(totals.repositories),
        as_of: Time(totals.taken),
    }
}
