//! The `CronJobs` of a Registry: lifecycle rules, collection, scrub. Each is a thin client of the running servers, which
//! neither mounts the volume nor knows the bucket's credentials. What it did is read from the termination message of its
//! Pod.

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
    Installation, ca_config_map, endpoint, job, maintenance_account,
    validate::ValidRegistry,
    workload::{component_labels, tolerations},
};
use crate::{
    objects::{self, Owner},
    pod::{Mount, PodParts, TOKEN_FILE, restricted},
};

/// A run that could not start for so long is left out.
const START_DEADLINE_SECONDS: i64 = 600;
/// A run that takes longer is ended; the next one goes on where it was.
const RUN_DEADLINE_SECONDS: i64 = 6 * 3600;

/// Work that a server does when it is asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Applies the lifecycle rules.
    Prune,
    /// Gives the space of what was removed back.
    Collect,
    /// Compares all content with its digests.
    Scrub,
}

impl Task {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Prune, Self::Collect, Self::Scrub];

    /// The command of `berth-registry`, which also names the component.
    pub fn command(self) -> &'static str {
        match self {
            Self::Prune => "prune",
            Self::Collect => "gc",
            Self::Scrub => "scrub",
        }
    }
}

/// When a task runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// What is done.
    pub task: Task,
    /// Cron expression, UTC.
    pub at: String,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// A time of the night or of the week that is the Registry's own, so that many Registries do not wake at once.
pub fn usual_time(task: Task, namespace: &str, name: &str) -> String {
    let number = own_number(namespace, name);
    let (minute, hour, day) = (number % 60, number / 60 % 6, number / 360 % 7);
    match task {
        Task::Prune | Task::Collect => format!("{minute} {hour} * * *"),
        Task::Scrub => format!("{minute} {hour} * * {day}"),
    }
}

/// A number that follows from a Registry's name.
pub(super) fn own_number(namespace: &str, name: &str) -> u32 {
    let hash = objects::hash(&(namespace, name));
    hash.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
}

/// The `CronJob` of a task.
pub fn cron_job(registry: &ValidRegistry, schedule: &Schedule, installation: &Installation) -> CronJob {
    let owner = &registry.owner;
    let command = schedule.task.command();
    let url = endpoint(&owner.namespace, &owner.name);
    let ca = Mount::config_map("ca", &ca_config_map(&owner.name), "/etc/berth/ca", &["ca.crt"]);
    let token = Mount::token("token", &url, "/etc/berth/token");
    let mut args = vec![
        command.to_owned(),
        "--url".to_owned(),
        url,
        "--ca".to_owned(),
        ca.file("ca.crt").display().to_string(),
        "--token-file".to_owned(),
        token.file(TOKEN_FILE).display().to_string(),
    ];
    if schedule.dry_run {
        args.push("--dry-run".to_owned());
    }
    let labels = component_labels(owner, command);
    let pod = restricted(PodParts {
        labels: labels.clone(),
        service_account: maintenance_account(&owner.name),
        pull_secrets: installation.pull_secrets.clone(),
        container: command,
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
        metadata: owner.child(job(&owner.name, schedule.task)),
        spec: CronJobSpec {
            schedule: schedule.at.clone(),
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

/// The identity of the jobs: they may ask for maintenance, and nothing of the cluster.
pub fn service_account(owner: &Owner) -> ServiceAccount {
    ServiceAccount {
        metadata: owner.child(maintenance_account(&owner.name)),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// Selects the Pods of the runs of a Registry's task.
pub fn pod_selector(owner: &Owner, task: Task) -> String {
    format!("{}={},app.kubernetes.io/component={}", owner.label, owner.name, task.command())
}

/// The last run of the lifecycle rules that ended, as the Pods tell it.
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
