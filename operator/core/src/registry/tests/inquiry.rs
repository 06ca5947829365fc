//! When a Registry that is ready is asked, and what of its answers is written (R-STO-8, R-OPS-2).

use berth_crds::{RegistryStatus, registry::StorageStatus};

use super::*;
use crate::registry::inquiry::{Asked, News, refusal, wait};

pub(super) fn stored(bytes: i64, as_of: &str) -> StorageStatus {
    StorageStatus { bytes, repositories: 3, as_of: Time(as_of.parse().unwrap()) }
}

/// R-STO-8: that the same was measured once more is no reason to write.
#[rstest]
#[case(4096, "2029-12-31T00:00:00Z")]
#[case(4097, "2030-01-01T00:00:00Z")]
fn storage_is_written_when_it_changed(#[case] bytes: i64, #[case] shown: &str) {
    let registry = registry(json!({"storage": {"memory": {}}}));
    let before =
        RegistryStatus { storage: Some(stored(4096, "2029-12-31T00:00:00Z")), ..RegistryStatus::default() };
    let state = status::state(1, false, &Observed::default());
    let facts = Facts { storage: Some(stored(bytes, "2030-01-01T00:00:00Z")), ..Facts::default() };
    let status = status::status(&owner(&registry), Some(3), &before, &state, None, facts, &now());
    assert_eq!(status.storage, Some(stored(bytes, shown)));
}

fn news(collected: Option<&str>, store_changed: Option<&str>) -> News {
    let parse = |at: Option<&str>| at.map(|at| at.parse().unwrap());
    News { collected: parse(collected), store_changed: parse(store_changed) }
}

const OLD: Option<&str> = Some("2029-12-30T00:00:00Z");
const NEW: Option<&str> = Some("2029-12-31T23:30:00Z");
const NOW: &str = "2030-01-01T00:00:00Z";

/// R-STO-8, R-OPS-2: an idle Registry is asked when there are news, and else a few times a day; one whose store refuses
/// writes each minute.
#[rstest]
#[case::answered(NOW, 0, None, news(OLD, OLD), 6 * 60)]
#[case::yesterday("2029-12-31T00:00:00Z", 0, None, news(OLD, OLD), 0)]
#[case::collected("2029-12-31T23:00:00Z", 0, None, news(NEW, OLD), 0)]
#[case::store_changed("2029-12-31T23:00:00Z", 0, None, news(OLD, NEW), 0)]
#[case::not_twice_a_second(NOW, 0, None, news(OLD, NEW), 0)]
#[case::refuses(NOW, 0, unready("StoreFailed").pop(), news(OLD, OLD), 1)]
#[case::failed_long_ago("2029-12-31T23:59:00Z", 1, None, news(OLD, OLD), 0)]
#[case::failed_often(NOW, 99, None, news(OLD, OLD), 6 * 60)]
fn registries_are_asked_seldom(
    #[case] at: &str,
    #[case] failures: u32,
    #[case] refusal: Option<Unready>,
    #[case] news_now: News,
    #[case] minutes: u64,
) {
    let asked = Asked { at: at.parse().unwrap(), news: news(OLD, OLD), failures, refusal };
    let owner = owner(&registry(json!({"storage": {"memory": {}}})));
    let left = wait(Some(&asked), news_now, &owner, now().0);
    let within = if minutes >= 60 { 60 } else { 0 };
    assert!((minutes..=minutes + within).contains(&(left.as_secs() / 60)), "{left:?}");
    assert_eq!(left.is_zero(), minutes == 0 && at != NOW, "{left:?}");
}

#[test]
fn a_new_leader_asks_once() {
    let owner = owner(&registry(json!({"storage": {"memory": {}}})));
    assert!(wait(None, news(OLD, OLD), &owner, now().0).is_zero());
}

/// R-OPS-2: the first server that says so is believed, until all that answer say otherwise. Other words for the same
/// reason are nothing to write.
#[test]
fn what_the_servers_say_of_writes() {
    let said = |reason: &str, message: &str| {
        Some(Unready { reason: reason.to_owned(), message: message.to_owned() })
    };
    let (denied, again, full) =
        (said("CredentialsRefused", "id 1"), said("CredentialsRefused", "id 2"), said("StoreFailed", "full"));
    assert_eq!(refusal(None, vec![None, None]), None);
    assert_eq!(refusal(None, vec![None, denied.clone()]), denied);
    assert_eq!(refusal(denied.clone(), vec![again, None]), denied);
    assert_eq!(refusal(denied.clone(), vec![full.clone()]), full);
    assert_eq!(refusal(denied.clone(), vec![]), denied, "nobody answered");
    assert_eq!(refusal(denied, vec![None]), None);
}
