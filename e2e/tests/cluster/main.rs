//! The acceptance tests on a real cluster, through the charts as shipped and under their own rights. A module is a
//! part of the product, a test is a story in namespaces of its own; all of them run side by side.
//! They need the cluster that `BERTH_CLUSTER` names (`cargo verify` boots one) and say so when there is none.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod chart;
mod deletion;
mod gate;
mod hanging;
mod healing;
mod killed;
mod lifecycle;
mod notary;
mod plugin;
mod policies;
mod readonly;
mod registry;
mod replication;
mod rolling;
mod running;
mod schema;
mod tenants;
mod trust;

/// The ServiceAccount of the operator, as the audit log names it.
const OPERATOR: &str = "berth-system:berth-operator";
