//! What a snapshot of usage says, as metrics. These are the only series with names that clients chose: the largest hundred
//! have one each, however many there are.

use std::{
    cmp::Reverse,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use berth_registry_core::usage::{Held, Usage};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Unit,
};

use super::Documented;

const LARGEST: usize = 100;
/// How old a snapshot may get in this process while another one may have taken a newer one.
const INTERVAL: Duration = Duration::from_mins(5);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RepositoryLabels {
    repository: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TenantLabels {
    tenant: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Default)]
pub(super) struct UsageSeries {
    repositories: Family<RepositoryLabels, Gauge>,
    other_repositories: Gauge,
    tenants: Family<TenantLabels, Gauge>,
    store: Family<KindLabels, Gauge>,
    taken: Gauge,
    looked: Mutex<Option<Instant>>,
}

impl UsageSeries {
    pub(super) fn register(&self, registry: &mut Documented) {
        registry.register_with_unit(
            "repository",
            "What a repository holds, blobs and manifests, also if others hold it, too; the largest ones",
            Unit::Bytes,
            self.repositories.clone(),
        );
        registry.register_with_unit(
            "other_repositories",
            "What all other repositories hold",
            Unit::Bytes,
            self.other_repositories.clone(),
        );
        registry.register_with_unit(
            "tenant",
            "What the repositories with a common first component of their names hold; the largest ones",
            Unit::Bytes,
            self.tenants.clone(),
        );
        registry.register_with_unit("store", "What lies in the store", Unit::Bytes, self.store.clone());
        registry.register_with_unit(
            "usage_timestamp",
            "When usage was measured last, since 1970; 0 if never",
            Unit::Seconds,
            self.taken.clone(),
        );
    }

    pub(super) fn is_due(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let due = looked.is_none_or(|looked| looked.elapsed() >= INTERVAL);
        if due {
            *looked = Some(Instant::now());
        }
        due
    }

    pub(super) fn set(&self, usage: &Usage) {
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let (largest, others) = usage.largest(LARGEST);
        self.repositories.clear();
        for (name, held) in largest {
            let labels = RepositoryLabels { repository: name.to_string() };
            self.repositories.get_or_create(&labels).set(bytes(held.logical_bytes));
        }
        self.other_repositories.set(bytes(others));
        let mut tenants: Vec<(&String, &Held)> = usage.tenants.iter().collect();
        tenants.sort_by_key(|(_, held)| Reverse(held.logical_bytes));
        self.tenants.clear();
        for (name, held) in tenants.into_iter().take(LARGEST) {
            let labels = TenantLabels { tenant: name.clone() };
            self.tenants.get_or_create(&labels).set(bytes(held.logical_bytes));
        }
        let store = &usage.store;
        for (kind, size) in [
            ("blobs", store.blob_bytes),
            ("trash", store.trash_bytes),
            ("uploads", store.upload_bytes),
            ("records", store.record_bytes),
        ] {
            self.store.get_or_create(&KindLabels { kind }).set(bytes(size));
        }
        self.taken.set(usage.taken.as_second());
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Metrics, *};

    #[test]
    fn repositories_have_a_bounded_number_of_series() {
        // R-STO-8
        let mut usage = Usage::new(jiff::Timestamp::UNIX_EPOCH);
        for i in 0..150_u64 {
            let name = format!("team{}/r{i}", i % 3).parse().unwrap();
            usage.add_blob(1000 + i, &[&name]);
        }
        let metrics = Metrics::default();
        metrics.usage(&usage);
        metrics.usage(&usage);
        let text = metrics.text();
        assert_eq!(text.matches("berth_repository_bytes{").count(), LARGEST);
        for line in [
            "berth_repository_bytes{repository=\"team2/r149\"} 1149",
            "berth_other_repositories_bytes 51225",
            "berth_tenant_bytes{tenant=\"team0\"} 53675",
            "berth_store_bytes{kind=\"blobs\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(metrics.usage_is_due() && !metrics.usage_is_due());
    }
}
