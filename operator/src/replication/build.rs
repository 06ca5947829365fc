//! Third verb: what is to exist now: the standing objects, the Job of a pass that is due, and none of the Jobs that are
//! no longer needed. Pure; the objects themselves are built in `berth_operator_core::replicate_job`.

use berth_crds::{ReplicationPolicy, ResourceExt};
use berth_operator_core::{
    objects::Owner,
    registry::Installation,
    replicate_job,
    replication::{
        Due, Pass, Plan, due, job_name, next_pass,
        pass::{annotations, superfluous},
    },
};
use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, ServiceAccount},
};

use crate::replication::fetch::World;

/// What is to exist.
pub(super) struct Desired {
    /// The worker's identity.
    pub(super) account: ServiceAccount,
    /// The worker's configuration.
    pub(super) config: ConfigMap,
    /// The pass that is due.
    pub(super) start: Option<Box<Job>>,
    /// Names of Jobs that are to go.
    pub(super) remove: Vec<String>,
    /// When to look again.
    pub(super) due: Due,
}

/// Decides it. A paused policy keeps what it has and begins nothing, and no pass begins towards a Registry that is not
/// ready. `bundle` holds Berth's own certificates.
pub(super) fn build(
    owner: &Owner,
    policy: &ReplicationPolicy,
    plan: &Plan,
    world: &World,
    installation: &Installation,
    bundle: &str,
    now: Timestamp,
) -> Result<Desired, serde_yaml::Error> {
    let generation = policy.metadata.generation.unwrap_or_default();
    let passes = &world.passes;
    let newest = passes.iter().max_by_key(|pass| pass.number);
    let changed = policy.status.as_ref().and_then(|status| status.source_changed_at.as_ref());
    let due = due(plan, generation, newest, changed.map(|time| time.0), now);
    let begins = due == Due::Now && !policy.spec.paused && world.not_ready().is_none();
    let start = begins.then(|| {
        let (number, failures) = next_pass(newest);
        Box::new(replicate_job::job(owner, plan, number, annotations(generation, failures), installation))
    });
    let name = policy.name_any();
    let remove = superfluous(passes).into_iter().map(|number| job_name(&name, number)).collect();
    let account = replicate_job::service_account(owner);
    Ok(Desired { account, config: replicate_job::config_map(owner, plan, bundle)?, start, remove, due })
}

/// The newest pass that has ended.
pub(super) fn newest_ended(passes: &[Pass]) -> Option<&Pass> {
    passes.iter().filter(|pass| pass.end.is_some()).max_by_key(|pass| pass.number)
}
