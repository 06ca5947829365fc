//! First verb: the world that a Registry depends on, read fresh, because what triggered the look may not have reached
//! any store yet.

use berth_crds::{Registry, ReplicationPolicy};
use berth_operator_core::{
    objects::Owner,
    registry::{
        World, tls_secret,
        validate::{claim_names, secret_names},
    },
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::{Api, api::ListParams};

use super::{
    ReconcileError,
    gate::{self, wants_gate},
};
use crate::{
    Context,
    certs::{Authority, controller::read_authority},
    stores::Guarded,
};

/// The world, and what certificates are made from.
pub(super) struct Fetched {
    pub(super) world: World,
    /// The Secret with the certificate, if there is one.
    pub(super) tls: Option<Secret>,
    pub(super) authority: Authority,
}

pub(super) async fn fetch(
    context: &Context,
    registry: &Registry,
    owner: &Owner,
) -> Result<Fetched, ReconcileError> {
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &owner.namespace);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &owner.namespace);
    let mut world = World {
        policies: policies(context, owner).await?,
        image_policies: if wants_gate(registry) { gate::fetch(context, owner).await? } else { Vec::new() },
        ..World::default()
    };
    for name in secret_names(registry) {
        if let Some(secret) = secrets.get_opt(name).await? {
            world.secrets.insert(name.to_owned(), secret.data.unwrap_or_default());
        }
    }
    for name in claim_names(registry) {
        if claims.get_metadata_opt(name).await?.is_some() {
            world.claims.push(name.to_owned());
        }
    }
    Ok(Fetched {
        world,
        tls: secrets.get_opt(&tls_secret(&owner.name)).await?,
        authority: read_authority(context).await??,
    })
}

/// The `ReplicationPolicies` of the namespace that parse, in the order of their names.
async fn policies(context: &Context, owner: &Owner) -> Result<Vec<ReplicationPolicy>, kube::Error> {
    let api: Api<Guarded<ReplicationPolicy>> = Api::namespaced(context.client.clone(), &owner.namespace);
    let all = api.list(&ListParams::default()).await?;
    let mut parsed: Vec<_> = all.items.into_iter().filter_map(|object| object.0.ok()).collect();
    parsed.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    Ok(parsed)
}
