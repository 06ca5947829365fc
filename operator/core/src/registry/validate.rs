//! From spec and world to a Registry that can be built: references resolved, texts parsed, unions closed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use berth_crds::{
    Registry, ReplicationPolicy, SecretReference,
    registry::{
        Anonymous, Lifecycle, LifecycleRule as SpecRule, PodOptions, Redirects as SpecRedirects,
        Storage as SpecStorage, TagStatus, Traces,
    },
};
use berth_registry_core::{
    Pattern,
    age::{Age, InvalidAge},
    config::{self, Gate, LifecycleRule, RedirectMode, Redirects, Role, ServiceAccountGrant},
};
use k8s_openapi::ByteString;

use super::{
    Installation, RegistryError,
    bucket::Bucket,
    data_claim,
    gate::{self, Bound},
    jobs::{Schedule, Task, usual_time},
    maintenance_account, replication_account,
};
use crate::objects::Owner;

/// What the cluster holds that a Registry depends on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// Data of the Secrets that the spec names and that exist.
    pub secrets: BTreeMap<String, BTreeMap<String, ByteString>>,
    /// Names of the claims that the spec names and that exist.
    pub claims: Vec<String>,
    /// `ReplicationPolicies` of the namespace, in the order of their names.
    pub policies: Vec<ReplicationPolicy>,
    /// `ImagePolicies` that bind Pods of the namespace, in the order of their names, if the spec asks for them.
    pub image_policies: Vec<Bound>,
}

/// Where content is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Storage {
    /// A bucket of some cloud.
    Bucket(Bucket),
    /// A claim.
    Volume {
        /// Its name.
        claim: String,
        /// Size and class, if it is to be made.
        make: Option<(String, Option<String>)>,
    },
    /// The server's memory.
    Memory,
}

/// A Registry that can be built.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidRegistry {
    /// Itself, as the owner of its children.
    pub owner: Owner,
    /// How many servers.
    pub replicas: i32,
    /// Where content is kept.
    pub storage: Storage,
    /// What callers without credentials may do.
    pub anonymous: config::Anonymous,
    /// Name of the Secret with users.
    pub users: Option<String>,
    /// Users who may only pull.
    pub pull_only_users: Vec<String>,
    /// `ServiceAccounts` that may call.
    pub grants: Vec<ServiceAccountGrant>,
    /// Which images are refused to those who may only pull.
    pub gate: Option<Gate>,
    /// Tags that cannot be moved.
    pub immutable_tags: Vec<Pattern>,
    /// Which clients are sent to the bucket.
    pub redirects: Option<Redirects>,
    /// Where requests are told as traces; its Secrets exist.
    pub traces: Option<Traces>,
    /// Which images are removed, the lowest priority number first.
    pub rules: Vec<LifecycleRule>,
    /// For how long what was removed can be brought back.
    pub undelete_window: Option<Age>,
    /// What the servers are asked to do, and when.
    pub schedules: Vec<Schedule>,
    /// How the servers are placed.
    pub pod: PodOptions,
    /// Whether nothing is to be changed.
    pub paused: bool,
}

/// Names of the Secrets that a spec refers to.
pub fn secret_names(registry: &Registry) -> Vec<&str> {
    let SpecStorage { s3, gcs, azure, .. } = &registry.spec.storage;
    let s3 = s3.iter().flat_map(|s3| [&s3.credentials, &s3.ca]);
    let gcs = gcs.iter().flat_map(|gcs| [&gcs.credentials, &gcs.ca]);
    let azure = azure.iter().flat_map(|azure| [&azure.credentials, &azure.ca]);
    let users = registry.spec.access.iter().map(|access| &access.users);
    let traces = registry.spec.traces.iter().flat_map(|traces| [&traces.headers, &traces.ca]);
    let all = users.chain(s3).chain(gcs).chain(azure).chain(traces);
    all.flatten().map(|reference| reference.secret_name.as_str()).collect()
}

/// Names of the claims that a spec refers to.
pub fn claim_names(registry: &Registry) -> Vec<&str> {
    let volume = registry.spec.storage.volume.as_ref();
    volume.and_then(|volume| volume.claim_name.as_deref()).into_iter().collect()
}

/// Checks everything that the schema cannot.
pub fn validate(
    registry: &Registry,
    owner: Owner,
    installation: &Installation,
    world: &World,
) -> Result<ValidRegistry, RegistryError> {
    let spec = &registry.spec;
    let access = spec.access.clone().unwrap_or_default();
    if let Some(users) = &access.users {
        let data = secret(world, users, "access.users", &["htpasswd"], "the key htpasswd")?;
        check_pull_only(&access.pull_only_users, data)?;
    }
    let exempt = [installation.namespace.as_str(), "kube-system"];
    if access.enforce_image_policies && exempt.contains(&owner.namespace.as_str()) {
        let cause = "no ImagePolicy binds the Pods of this namespace: put the Registry elsewhere";
        return Err(invalid("access.enforceImagePolicies", &cause));
    }
    if let Some(Traces { headers, ca, .. }) = &spec.traces {
        if let Some(headers) = headers {
            secret(world, headers, "traces.headers", &["headers"], "the key headers")?;
        }
        if let Some(ca) = ca {
            secret(world, ca, "traces.ca", &["ca.crt"], "the key ca.crt")?;
        }
    }
    let storage = storage(&spec.storage, &owner.name, world)?;
    let lifecycle = spec.lifecycle.clone().unwrap_or_default();
    let mut rules = lifecycle.rules.iter().map(rule).collect::<Result<Vec<_>, _>>()?;
    rules.sort_by_key(|rule| rule.priority);
    let schedules = schedules(&lifecycle, &owner, &storage);
    let grants = grants(&owner, installation, !schedules.is_empty(), &world.policies);
    let gate = access.enforce_image_policies.then(|| gate::gate(&owner, &grants, &world.image_policies));
    Ok(ValidRegistry {
        grants,
        gate,
        pull_only_users: access.pull_only_users,
        replicas: spec.replicas.unwrap_or(1),
        storage,
        anonymous: match access.anonymous {
            None | Some(Anonymous::None) => config::Anonymous::None,
            Some(Anonymous::Pull) => config::Anonymous::Read,
        },
        users: access.users.map(|users| users.secret_name),
        immutable_tags: parse_all("access.immutableTags", &access.immutable_tags)?,
        redirects: spec.redirects.as_ref().map(redirects).transpose()?,
        traces: spec.traces.clone(),
        rules,
        undelete_window: lifecycle
            .undelete_window
            .map(|age| age.parse().map_err(|e: InvalidAge| invalid("lifecycle.undeleteWindow", &e)))
            .transpose()?,
        schedules,
        pod: spec.pod.clone().unwrap_or_default(),
        paused: spec.paused,
        owner,
    })
}

/// A name that is misspelt would leave its user with all rights.
fn check_pull_only(names: &[String], users: &BTreeMap<String, ByteString>) -> Result<(), RegistryError> {
    let file = users.get("htpasswd").map(|file| String::from_utf8_lossy(&file.0)).unwrap_or_default();
    let known: BTreeSet<_> = file.lines().filter_map(|line| Some(line.trim().split_once(':')?.0)).collect();
    match names.iter().find(|name| !known.contains(name.as_str())) {
        Some(name) => {
            let cause = format!("the Secret of access.users has no user {name:?}");
            Err(invalid("access.pullOnlyUsers", &cause))
        }
        None => Ok(()),
    }
}

fn storage(spec: &SpecStorage, name: &str, world: &World) -> Result<Storage, RegistryError> {
    let SpecStorage { s3, gcs, azure, volume, memory } = spec;
    match (s3, gcs, azure, volume, memory) {
        (Some(s3), None, None, None, None) => Bucket::s3(s3, world).map(Storage::Bucket),
        (None, Some(gcs), None, None, None) => Bucket::gcs(gcs, world).map(Storage::Bucket),
        (None, None, Some(azure), None, None) => Bucket::azure(azure, world).map(Storage::Bucket),
        (None, None, None, Some(volume), None) => match (&volume.size, &volume.claim_name) {
            (Some(size), None) => Ok(Storage::Volume {
                claim: data_claim(name),
                make: Some((size.clone(), volume.storage_class_name.clone())),
            }),
            (None, Some(claim)) if world.claims.contains(claim) => {
                Ok(Storage::Volume { claim: claim.clone(), make: None })
            }
            (None, Some(claim)) => Err(RegistryError::ClaimNotFound { claim: claim.clone() }),
            _ => Err(RegistryError::StorageInvalid),
        },
        (None, None, None, None, Some(_)) => Ok(Storage::Memory),
        _ => Err(RegistryError::StorageInvalid),
    }
}

/// What a Secret holds that exists and has these keys.
pub(super) fn secret<'a>(
    world: &'a World,
    reference: &SecretReference,
    field: &'static str,
    keys: &[&'static str],
    what: &'static str,
) -> Result<&'a BTreeMap<String, ByteString>, RegistryError> {
    let name = reference.secret_name.clone();
    let Some(data) = world.secrets.get(&name) else {
        return Err(RegistryError::SecretNotFound { secret: name, field, keys: what });
    };
    match keys.iter().find(|key| !data.contains_key(**key)) {
        Some(key) => Err(RegistryError::SecretKeyMissing { secret: name, field, key }),
        None => Ok(data),
    }
}

/// What is kept in memory is gone with the server: there is nothing to collect or to scrub.
fn schedules(lifecycle: &Lifecycle, owner: &Owner, storage: &Storage) -> Vec<Schedule> {
    let usual = |task| (*storage != Storage::Memory).then(|| usual_time(task, &owner.namespace, &owner.name));
    let times = [
        (Task::Prune, lifecycle.schedule.clone()),
        (Task::Collect, lifecycle.collection_schedule.clone().or_else(|| usual(Task::Collect))),
        (Task::Scrub, lifecycle.scrub_schedule.clone().or_else(|| usual(Task::Scrub))),
    ];
    let dry_run = |task| task == Task::Prune && lifecycle.dry_run;
    times
        .into_iter()
        .filter_map(|(task, at)| Some(Schedule { task, at: at?, dry_run: dry_run(task) }))
        .collect()
}

fn invalid(field: &str, cause: &dyn fmt::Display) -> RegistryError {
    RegistryError::FieldInvalid { field: field.to_owned(), cause: cause.to_string() }
}

fn parse_all<T: FromStr<Err: fmt::Display>>(field: &str, texts: &[String]) -> Result<Vec<T>, RegistryError> {
    texts.iter().map(|text| text.parse().map_err(|e| invalid(field, &e))).collect()
}

fn redirects(spec: &SpecRedirects) -> Result<Redirects, RegistryError> {
    Ok(Redirects {
        mode: RedirectMode::On,
        networks: parse_all("redirects.networks", &spec.networks)?,
        lifetime: None,
    })
}

fn rule(spec: &SpecRule) -> Result<LifecycleRule, RegistryError> {
    let invalid = |field: &str, cause: &dyn fmt::Display| {
        invalid(&format!("lifecycle.rules[priority={}].{field}", spec.priority), cause)
    };
    let patterns = |field: &str, texts: &[String]| {
        parse_all(&format!("lifecycle.rules[priority={}].{field}", spec.priority), texts)
    };
    let count = |field: &str, number: i32| {
        u32::try_from(number).map_err(|_| invalid(field, &"it must not be negative"))
    };
    Ok(LifecycleRule {
        priority: count("priority", spec.priority)?,
        description: spec.description.clone(),
        repositories: patterns("repositories", &spec.repositories)?,
        tag_patterns: patterns("tagPatterns", &spec.tag_patterns)?,
        tag_status: spec.tag_status.map(|status| match status {
            TagStatus::Tagged => config::TagStatus::Tagged,
            TagStatus::Untagged => config::TagStatus::Untagged,
            TagStatus::Any => config::TagStatus::Any,
        }),
        keep_last: spec.keep_last.map(|number| count("keepLast", number)).transpose()?,
        older_than: spec
            .older_than
            .as_ref()
            .map(|age| age.parse().map_err(|e: InvalidAge| invalid("olderThan", &e)))
            .transpose()?,
    })
}

/// Who may call with the token of a `ServiceAccount`: the operator reads evidence and usage, the jobs maintain, replication reads its
/// source and writes its destination.
fn grants(
    owner: &Owner,
    installation: &Installation,
    maintains: bool,
    policies: &[ReplicationPolicy],
) -> Vec<ServiceAccountGrant> {
    let grant = |namespace: &str, name: &str, role: Role| ServiceAccountGrant {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        role,
    };
    let mut grants = vec![grant(&installation.namespace, &installation.service_account, Role::Inspect)];
    if maintains {
        grants.push(grant(&owner.namespace, &maintenance_account(&owner.name), Role::Maintain));
    }
    let this = Some(owner.name.as_str());
    for policy in policies {
        let name = policy.metadata.name.clone().unwrap_or_default();
        let role = if policy.spec.destination.registry.as_deref() == this {
            Role::Push
        } else if policy.spec.source.registry.as_deref() == this {
            Role::Pull
        } else {
            continue;
        };
        grants.push(grant(&owner.namespace, &replication_account(&name), role));
    }
    grants.sort();
    grants
}
