//! Second verb: from the stored object to rules that cannot be wrong about what they are. The webhook asks for the same.

use berth_crds::ImagePolicy;
use berth_operator_core::image_policy::{InvalidPolicy, Rules};
use kube::ResourceExt;

use crate::{image_policy::keys::Keys, stores::Guarded, unreadable};

/// The rules of a policy, with its keys as they are now.
pub async fn rules(policy: &Guarded<ImagePolicy>, keys: &Keys) -> Rules {
    match &policy.0 {
        Ok(policy) => {
            let namespace = policy.namespace().unwrap_or_default();
            Rules::new(&policy.spec, &keys.of(&namespace, &policy.spec).await)
        }
        Err(invalid) => Rules::broken(InvalidPolicy::Unreadable(unreadable::cause(invalid))),
    }
}
