//! Second verb: into a Registry that can be built, or the reason why somebody has to do something first.

use berth_crds::Registry;
use berth_operator_core::{
    objects::Owner,
    registry::{self, RegistryError, ValidRegistry},
};

use super::{Failure, ReconcileError, fetch::Fetched, installation};
use crate::Context;

/// The Registry as the owner of children, if the operator may work where it is.
pub(super) fn owner(registry: &Registry, context: &Context) -> Result<Owner, Failure> {
    let owner = Owner::registry(registry).ok_or(ReconcileError::Nameless)?;
    if !context.scope.contains(&owner.namespace) {
        return Err(RegistryError::NamespaceNotManaged { namespace: owner.namespace }.into());
    }
    Ok(owner)
}

pub(super) fn validate(
    registry: &Registry,
    owner: Owner,
    context: &Context,
    fetched: &Fetched,
) -> Result<ValidRegistry, RegistryError> {
    registry::validate(registry, owner, &installation(context), &fetched.world)
}
