//! When a Registry is asked how much it holds, and what of its answer is shown. A snapshot is taken by each collection,
//! once a night; so an idle Registry is asked after that, and a few times a day in case something else took one.

use std::time::Duration;

use berth_crds::registry::StorageStatus;
use berth_registry_core::usage::Totals;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::jobs::own_number;
use crate::objects::Owner;

const EACH: Duration = Duration::from_hours(6);
/// Spreads the questions to many Registries that were first asked at once.
const SPREAD_SECONDS: u32 = 3600;
const FIRST_RETRY: Duration = Duration::from_secs(30);

/// The last question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// When it was put.
    pub at: Timestamp,
    /// How many in a row had no answer, this one included.
    pub failures: u32,
}

/// How long until a Registry is to be asked; zero if that is now. `collected` is when its last collection ended.
pub fn wait(asked: Option<Asked>, collected: Option<Timestamp>, owner: &Owner, now: Timestamp) -> Duration {
    let Some(Asked { at, failures }) = asked else { return Duration::ZERO };
    let pause = match failures {
        0 if collected.is_some_and(|collected| at < collected) => return Duration::ZERO,
        0 => {
            let own = own_number(&owner.namespace, &owner.name) % SPREAD_SECONDS;
            EACH + Duration::from_secs(own.into())
        }
        n => FIRST_RETRY.saturating_mul(2_u32.saturating_pow(n - 1)).min(EACH),
    };
    let passed = Duration::try_from(now.duration_since(at)).unwrap_or_default();
    pause.saturating_sub(passed)
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
