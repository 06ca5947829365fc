//! The `CronJob` that applies the lifecycle rules: a thin client of the running servers, which neither mounts the volume
//! nor knows the bucket's credentials. What it did is read from the termination message of its Pod.

use berth_crds::registry::LifecycleStatus;
use berth_registry_core::job::PruneSummary;
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobSpec, JobSpec, JobTemplateSpec},
        core::v1::{Pod, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};

use super::{
    Installation, ca_config_map, endpoint, prune_job,
    validate::{Lifecycle, ValidRegistry},
    workload::{component_labels, tolerations},
};
use crate::{
    objects::Owner,
    pod::{Mount, PodParts, TOKEN_FILE, restricted},
};

/// A run that could not start for so long is left out.
const START_DEADLINE_SECONDS: i64 = 600;
/// A run that takes longer is ended; the next one goes on where it was.
const RUN_DEADLINE_SECONDS: i64 = 6 * 3600;

/// The `CronJob` of a Registry with lifecycle rules.
pub fn cron_job(registry: &ValidRegistry, lifecycle: &Lifecycle, installation: &Installation) -> CronJob {
    let owner = &registry.owner;
    let url = endpoint(&owner.namespace, &owner.name);
    let ca = Mount::config_map("ca", &ca_config_map(&owner.name), "/etc/berth/ca", &["ca.crt"]);
    let token = Mount::token("token", &url, "/etc/berth/token");
    let mut args = vec![
        "prune".to_owned(),
        "--url".to_owned(),
        url,
        "--ca".to_owned(),
        ca.file("ca.crt").display().to_string(),
        "--token-file".to_owned(),
        token.file(TOKEN_FILE).display().to_string(),
    ];
    if lifecycle.dry_run {
        args.push("--dry-run".to_owned());
    }
    let labels = component_labels(owner, "prune");
    let pod = restricted(PodParts {
        labels: labels.clone(),
        service_account: prune_job(&owner.name),
        pull_secrets: installation.pull_secrets.clone(),
        container: "prune",
        image: installation.image.clone(),
        args,
        mounts: vec![ca, token],
        node_selector: registry.pod.node_selector.clone(),
        tolerations: tolerations(registry),
        restart: "Never",
        grace_seconds: 10,
        ..PodParts::default()
    });
    CronJob {
        metadata: owner.child(prune_job(&owner.name)),
        spec: CronJobSpec {
            schedule: lifecycle.schedule.clone(),
            time_zone: Some("Etc/UTC".to_owned()),
            concurrency_policy: Some("Forbid".to_owned()),
            starting_deadline_seconds: Some(START_DEADLINE_SECONDS),
            successful_jobs_history_limit: Some(1),
            failed_jobs_history_limit: Some(1),
            suspend: Some(registry.paused),
            job_template: JobTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(JobSpec {
                    backoff_limit: Some(2),
                    active_deadline_seconds: Some(RUN_DEADLINE_SECONDS),
                    template: pod,
                    ..JobSpec::default()
                }),
            },
        },
        status: None,
    }
}

/// The identity of the job: it may ask for a prune, and nothing of the cluster.
pub fn service_account(owner: &Owner) -> ServiceAccount {
    ServiceAccount {
        metadata: owner.child(prune_job(&owner.name)),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// Selects the Pods of a Registry's prune job.
pub fn pod_selector(owner: &Owner) -> String {
    format!("{}={},app.kubernetes.io/component=prune", owner.label, owner.name)
}

/// The last run that ended, as the Pods tell it.
pub fn last_run(pods: &[Pod]) -> Option<LifecycleStatus> {
    let messages = pods.iter().filter_map(|pod| {
        let state = pod.status.as_ref()?.container_statuses.as_ref()?.first()?.state.as_ref()?;
        state.terminated.as_ref()?.message.as_deref()
    });
    let summaries = messages.filter_map(|message| serde_json::from_str::<PruneSummary>(message.trim()).ok());
    let last = summaries.max_by_key(|summary| summary.finished)?;
    Some(LifecycleStatus {
        last_run: Time(last.finished),
        removed: i64::try_from(last.removed).unwrap_or(i64::MAX),
        dry_run: last.dry_run,
    })
}
