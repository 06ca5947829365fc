//! One pass of a `ReplicationPolicy` as a Job: a stateless worker in a restricted Pod. All that it reads (its
//! configuration, certificates, tokens and credentials of both sides) is one projected folder.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{ConfigMap, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    objects::Owner,
    pod::{Mount, PodParts, Projection, restricted},
    registry::{Installation, ca_config_map, endpoint},
    replication::{Ca, MOUNT, Plan, Side, base_name, job_name},
};

/// The key of the worker's configuration in its `ConfigMap`, and the name of the file.
pub const FILE: &str = "replicate.yaml";

/// The key of certificates, in Secrets and `ConfigMaps` alike.
const CA_FILE: &str = "ca.crt";

/// A pass that takes longer is ended; the next one goes on where it was.
const DEADLINE_SECONDS: i64 = 6 * 3600;

/// The worker's identity.
pub fn service_account(owner: &Owner) -> ServiceAccount {
    ServiceAccount {
        metadata: owner.child(base_name(&owner.name)),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// The worker's configuration. It names Secrets' files, and holds nothing secret itself. `bundle` holds Berth's own
/// certificates; it goes along where a side is trusted by them.
pub fn config_map(owner: &Owner, plan: &Plan, bundle: &str) -> Result<ConfigMap, serde_yaml::Error> {
    let mut data = BTreeMap::from([(FILE.to_owned(), serde_yaml::to_string(&plan.config)?)]);
    let by_berth = |side: &Side| matches!(side, Side::Url { ca: Ca::Berth, .. });
    if by_berth(&plan.source) || by_berth(&plan.destination) {
        data.insert(CA_FILE.to_owned(), bundle.to_owned());
    }
    Ok(ConfigMap { metadata: owner.child(base_name(&owner.name)), data: Some(data), ..ConfigMap::default() })
}

/// The Job of pass `number`, with `annotations` that tell the controller later what it was made for.
pub fn job(
    owner: &Owner,
    plan: &Plan,
    number: u64,
    annotations: BTreeMap<String, String>,
    installation: &Installation,
) -> Job {
    let mut sources = vec![Projection::config_map(&base_name(&owner.name), FILE, FILE)];
    sources.extend(side(owner, "source", &plan.source));
    sources.extend(side(owner, "destination", &plan.destination));
    let mut labels = owner.labels();
    labels.insert("app.kubernetes.io/component".to_owned(), "replicate".to_owned());
    let pod = restricted(PodParts {
        labels: labels.clone(),
        service_account: base_name(&owner.name),
        pull_secrets: installation.pull_secrets.clone(),
        container: "replicate",
        image: installation.image.clone(),
        args: vec!["replicate".to_owned(), "--config".to_owned(), format!("{MOUNT}/{FILE}")],
        mounts: vec![Mount::projected("berth", MOUNT, &sources)],
        restart: "Never",
        grace_seconds: 10,
        ..PodParts::default()
    });
    Job {
        metadata: ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations),
            ..owner.child(job_name(&owner.name, number))
        },
        spec: Some(JobSpec {
            // A pass that failed is judged by the controller, which waits before the next.
            backoff_limit: Some(0),
            active_deadline_seconds: Some(DEADLINE_SECONDS),
            template: pod,
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn side(owner: &Owner, name: &str, side: &Side) -> Vec<Projection> {
    let ca_path = format!("{name}-ca/{CA_FILE}");
    match side {
        Side::Registry(registry) => vec![
            Projection::config_map(&ca_config_map(registry), CA_FILE, &ca_path),
            Projection::token(&endpoint(&owner.namespace, registry), &format!("{name}-token/token")),
        ],
        Side::Url { credentials, ca } => {
            let login = credentials.iter().flat_map(|secret| {
                ["username", "password"]
                    .map(|key| Projection::secret(secret, key, &format!("{name}-credentials/{key}")))
            });
            let ca = match ca {
                Ca::Public => None,
                Ca::Berth => Some(Projection::config_map(&base_name(&owner.name), CA_FILE, &ca_path)),
                Ca::Secret(secret) => Some(Projection::secret(secret, CA_FILE, &ca_path)),
            };
            login.chain(ca).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_crds::ReplicationPolicy;
    use rstest::rstest;
    use serde_json::{Value, json};

    #[rstest]
    #[case::between_registries(json!({"registry": "mirror"}))]
    #[case::to_elsewhere(json!({
        "url": "https://r.example.com", "credentials": {"secretName": "login"}, "ca": {"secretName": "their-ca"},
    }))]
    #[case::to_another_namespace(json!({"url": "https://r.team-b.svc.cluster.local"}))]
    fn objects_of_a_pass(#[case] destination: Value) {
        let policy: ReplicationPolicy = serde_json::from_value(json!({
            "apiVersion": "berth.dev/v1alpha1",
            "kind": "ReplicationPolicy",
            "metadata": {"name": "out", "namespace": "team-a", "uid": "uid-1"},
            "spec": {"source": {"registry": "registry"}, "destination": destination},
        }))
        .unwrap();
        let owner = Owner::replication_policy(&policy).unwrap();
        let plan = Plan::new("team-a", &policy.spec).unwrap();
        let installation = Installation {
            namespace: "berth-system".into(),
            service_account: "berth-operator".into(),
            image: "localhost/berth-registry:1".into(),
            pull_secrets: Vec::new(),
        };
        let case = policy.spec.destination.registry.as_deref().unwrap_or_else(|| {
            if policy.spec.destination.credentials.is_some() { "elsewhere" } else { "namespace" }
        });
        insta::assert_yaml_snapshot!(
            format!("job_{case}"),
            job(&owner, &plan, 7, BTreeMap::new(), &installation)
        );
        insta::assert_yaml_snapshot!(
            format!("config_map_{case}"),
            config_map(&owner, &plan, "BUNDLE").unwrap()
        );
        insta::assert_yaml_snapshot!("service_account", service_account(&owner));
    }
}
