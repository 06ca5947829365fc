//! The one builder of Pods: every Pod that Berth makes is built here and meets the `restricted` profile of the Pod
//! Security Standards. It has no identity of the cluster unless a token is asked for.

use std::{collections::BTreeMap, path::Path};

use k8s_openapi::{
    api::core::v1::{
        Capabilities, ConfigMapProjection, ConfigMapVolumeSource, Container, ContainerPort, EnvVar,
        EnvVarSource, KeyToPath, LocalObjectReference, PersistentVolumeClaimVolumeSource, PodSecurityContext,
        PodSpec, PodTemplateSpec, Probe, ProjectedVolumeSource, ResourceRequirements, SeccompProfile,
        SecretKeySelector, SecretProjection, SecretVolumeSource, SecurityContext,
        ServiceAccountTokenProjection, Toleration, TopologySpreadConstraint, Volume, VolumeMount,
        VolumeProjection,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

/// The user and group that Berth's images run as.
pub const USER: i64 = 65532;

/// The name of the file that [`Mount::token`] puts into its folder.
pub const TOKEN_FILE: &str = "token";

/// How long a mounted token is good; the kubelet replaces it after 80 % of that.
const TOKEN_SECONDS: i64 = 3600;

/// What a Pod is to run. Everything that is not said here is the same for all of Berth's Pods.
#[derive(Clone, Debug, Default)]
pub struct PodParts {
    /// Labels of the Pod.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the Pod.
    pub annotations: BTreeMap<String, String>,
    /// Name of its `ServiceAccount`.
    pub service_account: String,
    /// Whether the usual token of the API server is mounted.
    pub api_token: bool,
    /// Pull secrets, by name.
    pub pull_secrets: Vec<String>,
    /// Name of its one container.
    pub container: &'static str,
    /// Image of the container.
    pub image: String,
    /// Arguments of the image's entry point.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<EnvVar>,
    /// Named ports.
    pub ports: Vec<(&'static str, i32)>,
    /// Files.
    pub mounts: Vec<Mount>,
    /// When it is to be restarted.
    pub liveness: Option<Probe>,
    /// When it may be called.
    pub readiness: Option<Probe>,
    /// Requests and limits.
    pub resources: Option<ResourceRequirements>,
    /// Labels that a node must carry.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated.
    pub tolerations: Vec<Toleration>,
    /// How Pods are spread over nodes.
    pub spread: Vec<TopologySpreadConstraint>,
    /// `Always` for servers, `Never` for jobs.
    pub restart: &'static str,
    /// How long the container may take to end.
    pub grace_seconds: i64,
}

/// A folder in the container.
#[derive(Clone, Debug)]
pub struct Mount {
    volume: Volume,
    path: String,
    writable: bool,
}

impl Mount {
    /// Keys of a Secret as files; all of them if none are named.
    pub fn secret(volume: &str, secret: &str, path: &str, keys: &[&str]) -> Self {
        let source = SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            default_mode: Some(0o440),
            items: items(keys),
            ..SecretVolumeSource::default()
        };
        Self::read_only(path, Volume { name: volume.to_owned(), secret: Some(source), ..Volume::default() })
    }

    /// Keys of a `ConfigMap` as files; all of them if none are named.
    pub fn config_map(volume: &str, config_map: &str, path: &str, keys: &[&str]) -> Self {
        let source = ConfigMapVolumeSource {
            name: config_map.to_owned(),
            default_mode: Some(0o444),
            items: items(keys),
            ..ConfigMapVolumeSource::default()
        };
        Self::read_only(
            path,
            Volume { name: volume.to_owned(), config_map: Some(source), ..Volume::default() },
        )
    }

    /// A token of the Pod's `ServiceAccount` for one audience, as the file [`TOKEN_FILE`].
    pub fn token(volume: &str, audience: &str, path: &str) -> Self {
        Self::projected(volume, path, &[Projection::token(audience, TOKEN_FILE)])
    }

    /// A claim, to be written to.
    pub fn claim(volume: &str, claim: &str, path: &str) -> Self {
        let source = PersistentVolumeClaimVolumeSource { claim_name: claim.to_owned(), read_only: None };
        let volume =
            Volume { name: volume.to_owned(), persistent_volume_claim: Some(source), ..Volume::default() };
        Self { volume, path: path.to_owned(), writable: true }
    }

    /// Files from several sources in one folder.
    pub fn projected(volume: &str, path: &str, sources: &[Projection]) -> Self {
        let source = ProjectedVolumeSource {
            default_mode: Some(0o440),
            sources: Some(sources.iter().map(|source| source.0.clone()).collect()),
        };
        Self::read_only(
            path,
            Volume { name: volume.to_owned(), projected: Some(source), ..Volume::default() },
        )
    }

    fn read_only(path: &str, volume: Volume) -> Self {
        Self { volume, path: path.to_owned(), writable: false }
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> std::path::PathBuf {
        Path::new(&self.path).join(name)
    }
}

/// One file of a projected folder.
#[derive(Clone, Debug)]
pub struct Projection(VolumeProjection);

impl Projection {
    /// A key of a Secret.
    pub fn secret(secret: &str, key: &str, path: &str) -> Self {
        let source =
            SecretProjection { name: secret.to_owned(), items: Some(vec![item(key, path)]), optional: None };
        Self(VolumeProjection { secret: Some(source), ..VolumeProjection::default() })
    }

    /// A key of a `ConfigMap`.
    pub fn config_map(config_map: &str, key: &str, path: &str) -> Self {
        let source = ConfigMapProjection {
            name: config_map.to_owned(),
            items: Some(vec![item(key, path)]),
            optional: None,
        };
        Self(VolumeProjection { config_map: Some(source), ..VolumeProjection::default() })
    }

    /// A token of the Pod's `ServiceAccount` for one audience.
    pub fn token(audience: &str, path: &str) -> Self {
        let token = ServiceAccountTokenProjection {
            audience: Some(audience.to_owned()),
            expiration_seconds: Some(TOKEN_SECONDS),
            path: path.to_owned(),
        };
        Self(VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() })
    }
}

fn item(key: &str, path: &str) -> KeyToPath {
    KeyToPath { key: key.to_owned(), path: path.to_owned(), mode: None }
}

fn items(keys: &[&str]) -> Option<Vec<KeyToPath>> {
    (!keys.is_empty()).then(|| keys.iter().map(|key| item(key, key)).collect())
}

/// An environment variable.
pub fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
}

/// An environment variable from the key of the same name in a Secret.
pub fn secret_variable(name: &str, secret: &str) -> EnvVar {
    let selector = SecretKeySelector { key: name.to_owned(), name: secret.to_owned(), optional: None };
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() }),
    }
}

/// The Pod.
pub fn restricted(parts: PodParts) -> PodTemplateSpec {
    let mounts = parts.mounts.iter().map(|mount| VolumeMount {
        name: mount.volume.name.clone(),
        mount_path: mount.path.clone(),
        read_only: (!mount.writable).then_some(true),
        ..VolumeMount::default()
    });
    let container_ports = parts.ports.iter().map(|(label, number)| ContainerPort {
        name: Some((*label).to_owned()),
        container_port: *number,
        ..ContainerPort::default()
    });
    let container = Container {
        name: parts.container.to_owned(),
        image: Some(parts.image),
        args: Some(parts.args),
        env: some(parts.env),
        ports: some(container_ports.collect()),
        volume_mounts: some(mounts.collect()),
        liveness_probe: parts.liveness,
        readiness_probe: parts.readiness,
        resources: parts.resources,
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    };
    let pull_secrets = parts.pull_secrets.into_iter().map(|name| LocalObjectReference { name });
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(parts.labels),
            annotations: (!parts.annotations.is_empty()).then_some(parts.annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(parts.service_account),
            automount_service_account_token: Some(parts.api_token),
            enable_service_links: Some(false),
            image_pull_secrets: some(pull_secrets.collect()),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                fs_group: Some(USER),
                // A volume with a million files is not walked at each start.
                fs_group_change_policy: Some("OnRootMismatch".to_owned()),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    localhost_profile: None,
                }),
                ..PodSecurityContext::default()
            }),
            containers: vec![container],
            volumes: some(parts.mounts.into_iter().map(|mount| mount.volume).collect()),
            node_selector: (!parts.node_selector.is_empty()).then_some(parts.node_selector),
            tolerations: some(parts.tolerations),
            topology_spread_constraints: some(parts.spread),
            restart_policy: Some(parts.restart.to_owned()),
            termination_grace_period_seconds: Some(parts.grace_seconds),
            ..PodSpec::default()
        }),
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
