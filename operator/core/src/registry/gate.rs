//! What the servers of a Registry are told about `ImagePolicies`: those that the webhook would enforce for the Pods of the
//! Registry's namespace, with all that they need to judge by themselves. The data path never asks the operator.

use berth_crds::ImagePolicySpec;
use berth_registry_core::{
    Pattern,
    config::{Gate, GatePolicy, OutOfOrder, Role, ServiceAccountGrant},
};

use crate::{
    image_policy::{InvalidPolicy, Rules, Secrets, written},
    objects::Owner,
    registry::host,
};

/// What all policies of a gate may take, in bytes of JSON: a Secret holds 1 MiB.
const MAX_POLICIES: usize = 512 * 1024;

/// An `ImagePolicy` that binds Pods of a namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// `NAMESPACE/NAME`.
    pub name: String,
    /// What it says; or why it cannot be read.
    pub spec: Result<ImagePolicySpec, String>,
    /// What became of its Secrets.
    pub secrets: Secrets,
}

/// Whether a registry can be told to enforce a policy: it refuses, and whatever an image is pulled for. One that cannot be
/// read may be meant to.
pub fn is_enforceable(spec: &ImagePolicySpec) -> bool {
    spec.mode == berth_crds::image_policy::Mode::Enforce && spec.objects.is_none()
}

/// The gate of a Registry. Its own identities run no images, so nothing is refused to them.
pub(super) fn gate(owner: &Owner, grants: &[ServiceAccountGrant], policies: &[Bound]) -> Gate {
    let host = host(&owner.namespace, &owner.name);
    let reads = |grant: &&ServiceAccountGrant| matches!(grant.role, Role::Pull | Role::Inspect);
    let exempt = grants.iter().filter(reads).map(|grant| grant.name.clone());
    let mut left = MAX_POLICIES;
    let policies = policies.iter().filter_map(|bound| entry(&host, bound, &mut left)).collect();
    Gate { exempt: exempt.collect(), policies, host }
}

/// A policy as the gate takes it; none for one that has nothing to say about the host.
fn entry(host: &str, bound: &Bound, left: &mut usize) -> Option<GatePolicy> {
    let (images, written) = match &bound.spec {
        Ok(spec) if !is_enforceable(spec) => return None,
        Ok(spec) => {
            let rules = Rules::new(spec, &bound.secrets);
            (rules.images, rules.policy.and_then(|_| written(spec, &bound.secrets)))
        }
        Err(cause) => {
            let error = InvalidPolicy::Unreadable(cause.clone());
            let rules = Rules::broken(error.clone());
            (rules.images, Err(error))
        }
    };
    if !images.iter().any(|pattern| may_match(pattern, host)) {
        return None;
    }
    let name = bound.name.clone();
    let refuses = |cause: String| {
        let refuses = Some(OutOfOrder { images: images.clone(), cause });
        Some(GatePolicy { name: name.clone(), policy: None, refuses })
    };
    let policy = match written {
        Ok(policy) => policy,
        Err(error) => return refuses(error.to_string()),
    };
    let size = serde_json::to_vec(&policy).map_or(usize::MAX, |text| text.len());
    let Some(rest) = left.checked_sub(size) else {
        let limit = MAX_POLICIES / 1024;
        return refuses(format!(
            "the policies of this registry together are larger than {limit} KiB, which is more than its \
             configuration takes: use smaller trust roots, or fewer policies"
        ));
    };
    *left = rest;
    Some(GatePolicy { name: bound.name.clone(), policy: Some(policy), refuses: None })
}

/// Whether a pattern over `host/repository` could match something at a host.
fn may_match(pattern: &Pattern, host: &str) -> bool {
    let written = pattern.as_str().split('/').next().unwrap_or_default();
    written.contains('*') || written == host
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("r.a.svc.cluster.local/**", true)]
    #[case("r.a.svc.cluster.local/app", true)]
    #[case("*.svc.cluster.local/**", true)]
    #[case("**", true)]
    #[case("**/app", true)]
    #[case("docker.io/**", false)]
    #[case("r.b.svc.cluster.local/**", false)]
    fn what_could_match(#[case] pattern: &str, #[case] expected: bool) {
        assert_eq!(may_match(&pattern.parse().unwrap(), "r.a.svc.cluster.local"), expected);
    }
}
