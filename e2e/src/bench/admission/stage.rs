//! What the Pods are asked about on: a Registry with signed images, Berth's policies, policy-controller; and who is asked
//! at the moment, which is waited for by asking about an unsigned image.

use std::time::Duration;

use bytes::Bytes;
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::Subject;
use super::images::{Repository, authority};
use super::load::{Api, pod};
use super::policy_controller;
use crate::bench::process::cpu_of;
use crate::chart::OPERATOR_NAMESPACE;
use crate::cluster::Cluster;
use crate::fixtures::{Outcome, Team, pod_processes};

/// The namespace of the Pods, and one that has nothing to do with them.
pub(super) const APPS: &str = "apps";
const ELSEWHERE: &str = "elsewhere";
/// Both.
pub(super) const NAMESPACES: &[&str] = &[APPS, ELSEWHERE];

/// Pods whose images are seen again and again.
const FAMILIAR: u32 = 8;

/// Everything that is measured, and what it is asked about.
pub(super) struct Stage<'a> {
    cluster: &'a Cluster,
    apps: Team<'a>,
    elsewhere: Team<'a>,
    /// The API server.
    pub(super) api: Api,
    /// The Registry.
    pub(super) repository: Repository,
    /// Pods whose images every webhook has seen before.
    pub(super) familiar: Vec<Bytes>,
    /// Pods whose images nobody has asked about.
    pub(super) fresh: Vec<Bytes>,
    unsigned: Bytes,
    policy: Value,
}

impl<'a> Stage<'a> {
    /// Makes everything, with so many Pods of which each has images of its own.
    pub(super) fn set(cluster: &'a Cluster, fresh: u32) -> Outcome<Self> {
        let (apps, elsewhere) = (Team::new(cluster, APPS)?, Team::new(cluster, ELSEWHERE)?);
        let spec = json!({"storage": {"memory": {}}, "access": {"anonymous": "Pull"}});
        let registry = apps.registry("registry", spec)?;
        let key = KeyPair::generate()?;
        let public = key.public_key_pem();
        let repository = Repository::of(&apps, &registry)?;
        // Before there is a policy, so that nothing is looked at ahead of time.
        let pushed = apps.until("the Registry to take images", || repository.push(0..1, None))?;
        let signed = repository.push(1..1 + 2 * (FAMILIAR + fresh), Some(&key))?;
        let pods: Vec<Bytes> = signed.chunks_exact(2).map(|two| pod([&two[0], &two[1]])).collect();
        let (familiar, fresh) = pods.split_at(FAMILIAR as usize);
        // That signatures of ours are what they should be, cosign says.
        let file = apps.client().home().join("release.pub");
        std::fs::write(&file, &public)?;
        let (file, image) = (file.display().to_string(), &signed[0]);
        apps.run("cosign", &["verify", "--key", &file, "--insecure-ignore-tlog=true", image])?;
        let host = &registry.host;
        policy_controller::install(cluster, host, &authority(&apps, &registry)?, &public)?;
        Ok(Self {
            api: Api::of(cluster)?,
            familiar: familiar.to_vec(),
            fresh: fresh.to_vec(),
            unsigned: pod([&pushed[0], &signed[0]]),
            policy: json!({
                "mode": "Enforce",
                "images": [format!("{host}/**")],
                "require": [{"signature": {"authorities": [{"name": "release", "key": {"pem": public}}]}}],
            }),
            cluster,
            apps,
            elsewhere,
            repository,
        })
    }

    /// Has the subject asked, and nobody else.
    pub(super) fn enter(&self, subject: Subject) -> Outcome {
        let (guarded, asked) = match subject {
            Subject::Nobody => (None, None),
            Subject::Elsewhere => (Some(ELSEWHERE), None),
            Subject::Warm | Subject::New => (Some(APPS), None),
            Subject::PolicyController => (None, Some(APPS)),
        };
        for team in [&self.apps, &self.elsewhere] {
            if guarded != Some(team.namespace()) {
                team.kubectl(&["delete", "imagepolicies", "--all"])?;
            }
        }
        policy_controller::ask(self.cluster, asked)?;
        for team in [&self.apps, &self.elsewhere] {
            if guarded == Some(team.namespace()) {
                team.apply_policy("signed", &self.policy)?;
            }
        }
        for team in [&self.apps, &self.elsewhere] {
            let namespace = Some(team.namespace());
            let closed = guarded == namespace || asked == namespace;
            team.until(
                &format!("unsigned images to be {}", if closed { "refused" } else { "let in" }),
                || {
                    let answer = self.api.admits(team.namespace(), &self.unsigned)?;
                    crate::ensure!(answer.is_err() == closed, "the API server says {answer:?}");
                    Ok(())
                },
            )?;
        }
        // The signed ones are let in, too, which a webhook that answers nothing at all would not do.
        self.apps.until("signed images to be let in", || {
            let answer = self.api.admits(APPS, &self.familiar[0])?;
            crate::ensure!(answer.is_ok(), "the API server says {answer:?}");
            Ok(())
        })
    }

    /// Processor time of everything that the subject's webhook consists of, in all its Pods.
    pub(super) fn cpu(&self, subject: Subject) -> Outcome<Option<Duration>> {
        let (namespace, program) = match subject {
            Subject::Nobody => return Ok(None),
            Subject::Elsewhere | Subject::Warm | Subject::New => (OPERATOR_NAMESPACE, "berth-operator"),
            Subject::PolicyController => (policy_controller::NAMESPACE, policy_controller::PROGRAM),
        };
        let team = Team::new(self.cluster, namespace)?;
        let mut total = Duration::ZERO;
        for pod in team.list("pods", "")? {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            for process in pod_processes(&team, name, program)? {
                total += cpu_of(process)?;
            }
        }
        Ok(Some(total))
    }
}
