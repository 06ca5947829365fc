//! Replication without I/O: what a policy asks of the worker, when a pass is due, and what its end means.
//! The controller observes Jobs, asks here, and acts; one pass is one Job, never two at once.

pub mod pass;

use std::{fmt::Display, path::PathBuf, time::Duration};

use berth_crds::{
    ReplicationPolicySpec,
    k8s_openapi::apimachinery::pkg::apis::meta::v1::Time,
    replication_policy::{LastSync, Location},
};
use berth_registry_core::{
    Age, Pattern,
    config::{Remote, ReplicateConfig, Selection},
    job::ReplicationReport,
};
use jiff::Timestamp;

use crate::registry::{CLUSTER_DOMAIN, endpoint};

/// Where the worker's files are mounted.
pub const MOUNT: &str = "/etc/berth";

/// The interval of a policy that gives none.
const DEFAULT_INTERVAL: Age = Age::from_secs(15 * 60);

/// A shorter interval would keep the cluster busy with starting Jobs.
const SHORTEST_INTERVAL: Age = Age::from_secs(5);

/// The wait after a first failed pass; doubled by each further one.
const FIRST_RETRY: Duration = Duration::from_secs(15);

/// A failing pass is tried again at least so often, unless the interval is shorter.
const LONGEST_RETRY: Duration = Duration::from_mins(15);

/// A field that makes no sense; the message begins with its path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {cause}")]
pub struct InvalidField {
    /// For example `spec.select[0].tags[1]`.
    pub path: String,
    /// What is wrong and what to write.
    pub cause: String,
}

fn invalid(path: impl Into<String>, cause: impl Display) -> InvalidField {
    InvalidField { path: path.into(), cause: format!("{cause}") }
}

/// One side of a replication, in the words of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// A Registry of the policy's namespace, by its name.
    Registry(String),
    /// Any other.
    Url {
        /// Name of a `kubernetes.io/basic-auth` Secret.
        credentials: Option<String>,
        /// What it is trusted by.
        ca: Ca,
    },
}

/// What a registry is trusted by, beside the public certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ca {
    /// Nothing else.
    Public,
    /// Berth's own certificates: a Registry of another namespace.
    Berth,
    /// The key `ca.crt` of a Secret, by its name.
    Secret(String),
}

impl Ca {
    /// The Secret, if it is one.
    pub fn secret(&self) -> Option<&String> {
        match self {
            Self::Secret(name) => Some(name),
            Self::Public | Self::Berth => None,
        }
    }
}

/// A policy that can be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where images are read.
    pub source: Side,
    /// Where they are written.
    pub destination: Side,
    /// Whether a push to the source starts a pass.
    pub on_push: bool,
    /// From the end of a pass to the begin of the next.
    pub interval: Age,
    /// The worker's configuration file.
    pub config: ReplicateConfig,
}

impl Plan {
    /// Reads the spec of a policy in `namespace`. What the schema refuses is refused here again, because an object
    /// can be older than the schema.
    pub fn new(namespace: &str, spec: &ReplicationPolicySpec) -> Result<Self, InvalidField> {
        let (source, source_remote) = location(namespace, "source", &spec.source)?;
        let (destination, destination_remote) = location(namespace, "destination", &spec.destination)?;
        let trigger = spec.trigger.clone().unwrap_or_default();
        let interval = match trigger.interval {
            None => DEFAULT_INTERVAL,
            Some(text) => text.parse().map_err(|error| invalid("spec.trigger.interval", error))?,
        };
        if interval < SHORTEST_INTERVAL {
            let cause = format!("{interval} is too short: write at least {SHORTEST_INTERVAL}");
            return Err(invalid("spec.trigger.interval", cause));
        }
        let select = spec.select.iter().enumerate().map(|(index, selection)| {
            let path = format!("spec.select[{index}]");
            Ok(Selection {
                repositories: patterns(&format!("{path}.repositories"), &selection.repositories)?,
                tags: patterns(&format!("{path}.tags"), &selection.tags)?,
            })
        });
        Ok(Self {
            source,
            destination,
            on_push: trigger.on_push,
            interval,
            config: ReplicateConfig {
                source: source_remote,
                destination: destination_remote,
                select: select.collect::<Result<_, _>>()?,
                prefix: spec.rewrite.as_ref().map(|rewrite| rewrite.prefix.clone()),
            },
        })
    }
}

fn patterns(path: &str, texts: &[String]) -> Result<Vec<Pattern>, InvalidField> {
    let parse = |(index, text): (usize, &String)| {
        text.parse().map_err(|error| invalid(format!("{path}[{index}]"), error))
    };
    texts.iter().enumerate().map(parse).collect()
}

fn location(namespace: &str, side: &str, location: &Location) -> Result<(Side, Remote), InvalidField> {
    let file = |what: &str| PathBuf::from(format!("{MOUNT}/{side}-{what}"));
    match (&location.registry, &location.url) {
        (Some(registry), None) => Ok((
            Side::Registry(registry.clone()),
            Remote {
                url: endpoint(namespace, registry),
                ca_file: Some(file("ca").join("ca.crt")),
                token_file: Some(file("token").join("token")),
                basic_dir: None,
            },
        )),
        (None, Some(url)) => {
            let name = |reference: &Option<berth_crds::SecretReference>| {
                reference.as_ref().map(|reference| reference.secret_name.clone())
            };
            let url = url.trim_end_matches('/');
            let credentials = name(&location.credentials);
            let ca = match name(&location.ca) {
                Some(secret) => Ca::Secret(secret),
                None if url.starts_with("https://") && url.ends_with(CLUSTER_DOMAIN) => Ca::Berth,
                None => Ca::Public,
            };
            if credentials.is_some() && url.starts_with("http://") {
                return Err(invalid(
                    format!("spec.{side}.url"),
                    "credentials would travel in the clear: write https://",
                ));
            }
            let remote = Remote {
                url: url.to_owned(),
                ca_file: (ca != Ca::Public).then(|| file("ca").join("ca.crt")),
                token_file: None,
                basic_dir: credentials.is_some().then(|| file("credentials")),
            };
            Ok((Side::Url { credentials, ca }, remote))
        }
        _ => Err(invalid(format!("spec.{side}"), "write exactly one of registry and url")),
    }
}

/// One pass: a Job as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The number at the end of its name.
    pub number: u64,
    /// Generation of the policy that it was made for.
    pub generation: i64,
    /// How many passes before it failed in a row.
    pub failures: u32,
    /// When its Job was created, by the API server's clock, in whole seconds.
    pub created: Timestamp,
    /// Absent while it runs.
    pub end: Option<End>,
}

/// How a pass ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// When.
    pub at: Timestamp,
    /// What the worker reported, if it came to that.
    pub report: Option<ReplicationReport>,
    /// Why it failed; absent if both sides agree now.
    pub failure: Option<String>,
}

impl Pass {
    /// Failed passes in a row, this one included.
    fn failures_in_a_row(&self) -> u32 {
        let failed = self.end.as_ref().is_some_and(|end| end.failure.is_some());
        if failed { self.failures.saturating_add(1) } else { 0 }
    }
}

/// Whether a pass is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Now.
    Now,
    /// Then, unless something happens before.
    At(Timestamp),
    /// When the pass that runs has ended.
    AfterThis,
}

/// Decides whether a pass is due, from the plan and the newest pass.
pub fn due(
    plan: &Plan,
    generation: i64,
    newest: Option<&Pass>,
    source_changed: Option<Timestamp>,
    now: Timestamp,
) -> Due {
    let Some(pass) = newest else { return Due::Now };
    let Some(end) = &pass.end else { return Due::AfterThis };
    if pass.generation != generation {
        return Due::Now;
    }
    let interval = plan.interval.as_duration();
    let wait = match pass.failures_in_a_row() {
        0 if plan.on_push && changed_since(pass, source_changed) => return Due::Now,
        0 => interval,
        failures => retry_after(failures).min(interval),
    };
    match end.at.checked_add(wait) {
        Ok(next) if next > now => Due::At(next),
        _ => Due::Now,
    }
}

/// The pass may have begun before the change: both are known to the second only, so a tie counts as a change.
fn changed_since(pass: &Pass, source_changed: Option<Timestamp>) -> bool {
    source_changed.is_some_and(|changed| changed >= pass.created)
}

fn retry_after(failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    FIRST_RETRY.saturating_mul(doubled).min(LONGEST_RETRY)
}

/// Number and count of failures for the pass after `newest`.
pub fn next_pass(newest: Option<&Pass>) -> (u64, u32) {
    newest.map_or((1, 0), |pass| (pass.number.saturating_add(1), pass.failures_in_a_row()))
}

/// Name of the `ServiceAccount` and `ConfigMap` of a policy, and the beginning of the names of its Jobs.
pub fn base_name(policy: &str) -> String {
    format!("replication-{policy}")
}

/// Name of the Job of a pass.
pub fn job_name(policy: &str, number: u64) -> String {
    format!("{}-{number}", base_name(policy))
}

/// The number of a pass from the name of its Job; `None` for a Job of another policy.
pub fn job_number(policy: &str, job: &str) -> Option<u64> {
    let digits = job.strip_prefix(&base_name(policy))?.strip_prefix('-')?;
    let number = digits.parse().ok()?;
    // Only the one spelling that we write: `01` and `+1` are not ours.
    (job_name(policy, number) == job).then_some(number)
}

/// Reads the worker's report from a termination message: the last line that holds one.
pub fn report(message: &str) -> Option<ReplicationReport> {
    message.lines().rev().find_map(|line| serde_json::from_str(line.trim()).ok())
}

/// The status of a report.
pub fn last_sync(report: &ReplicationReport) -> LastSync {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    LastSync {
        started: Time(report.started),
        finished: Time(report.finished),
        copied: count(report.copied),
        unchanged: count(report.unchanged),
        failed: count(report.failed),
        bytes: count(report.bytes),
    }
}

/// Since when the destination is known to lack something, given what was known before and the newest pass that ended.
pub fn behind_since(
    before: Option<Timestamp>,
    ended: Option<&Pass>,
    source_changed: Option<Timestamp>,
) -> Option<Timestamp> {
    let Some(pass) = ended else { return before.or(source_changed) };
    let failed = pass.end.as_ref().is_some_and(|end| end.failure.is_some());
    if failed {
        return Some(before.unwrap_or(pass.created));
    }
    // A pass that succeeded has brought everything from before it began.
    let after = |time: &Timestamp| *time >= pass.created;
    source_changed.filter(after).map(|changed| before.filter(after).unwrap_or(changed))
}

#[cfg(test)]
mod tests;
