//! Second verb: the policies in force as the webhook has them, each with whom it binds. Those that are out of order are
//! among them: what they govern would be refused, so it is told.

use std::sync::Arc;

use berth_crds::ImagePolicy;
use berth_operator_core::{admission::Mode, running::Binding};
use kube::ResourceExt as _;

use crate::{Context, stores::Guarded, webhook::policies::Compiled};

/// A policy that binds somebody.
pub(super) struct InForce {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) object: Arc<Guarded<ImagePolicy>>,
    pub(super) compiled: Arc<Compiled>,
    /// None if it binds nobody.
    pub(super) binding: Option<Binding>,
}

impl InForce {
    /// `NAMESPACE/NAME` and the mode, as reports show them.
    pub(super) fn shown(&self) -> (String, Mode) {
        (format!("{}/{}", self.namespace, self.name), self.compiled.rules.mode)
    }
}

/// All policies, in the order of their names.
pub(super) async fn policies(context: &Context) -> Vec<InForce> {
    let mut found = Vec::new();
    for object in context.stores.image_policies.state() {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        // Deleted this moment.
        let Some(compiled) = context.policies.get(&namespace, &name).await else { continue };
        let spec = object.0.as_ref().ok().map(|policy| &policy.spec);
        let binding = Binding::new(&context.settings.namespace, &namespace, &name, spec);
        found.push(InForce { namespace, name, object, compiled, binding });
    }
    found.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    found
}
