//! The one way in which controllers write children: server-side apply of what differs, then removal of what is no
//! longer wanted. A child that is as it should be is not written at all.

use std::fmt::Debug;

use berth_operator_core::objects::{self, Owner};
use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions, PropagationPolicy},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

/// Why children could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server refused, or could not be reached.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// An object of that name belongs to somebody else; it is left as it is.
    #[error("{kind} {name} exists and belongs to somebody else")]
    NameTaken {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
    },
}

/// Writes the children of one owner.
pub struct Applier<'a> {
    /// The cluster.
    pub client: &'a Client,
    /// Whose children they are.
    pub owner: &'a Owner,
    /// Whose fields they become.
    pub field_manager: &'static str,
    /// Counts what is written.
    pub writes: &'a prometheus_client::metrics::counter::Counter,
}

impl Applier<'_> {
    /// Brings the children of kind `K` to what is desired: applies those that differ, deletes those of this owner that
    /// are not desired. Children are told by the owner's label and by its uid.
    pub async fn converge<K>(&self, desired: &[K]) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.owner.namespace);
        let live = api.list(&ListParams::default().labels(&self.owner.selector())).await?.items;
        for object in desired {
            let name = object.name_any();
            let ours =
                |live: &&K| live.name_any() == name && objects::is_owned_by(live.meta(), &self.owner.uid);
            match live.iter().find(ours) {
                Some(found) if objects::is_as_desired(found, object) => {}
                Some(found) if objects::was_applied(found, object) => {
                    self.repair(&api, &name, object).await?;
                }
                Some(_) => self.apply(&api, &name, object).await?,
                // Not ours by label and owner: either it does not exist, or it is somebody else's.
                None => match api.get_metadata_opt(&name).await? {
                    Some(found) if !objects::is_owned_by(&found.metadata, &self.owner.uid) => {
                        return Err(Self::taken::<K>(name));
                    }
                    _ => self.apply(&api, &name, object).await?,
                },
            }
        }
        for orphan in live.iter().filter(|live| objects::is_owned_by(live.meta(), &self.owner.uid)) {
            let name = orphan.name_any();
            if !desired.iter().any(|object| object.name_any() == name) {
                self.delete(&api, orphan).await?;
            }
        }
        Ok(())
    }

    /// Applies objects that outlive their owner, and never deletes one. An object with the owner's label is taken over
    /// from an earlier owner of the same name.
    pub async fn keep<K>(&self, desired: &[K]) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.owner.namespace);
        for object in desired {
            let name = object.name_any();
            match api.get_opt(&name).await? {
                Some(found) if found.labels().get(self.owner.label) != Some(&self.owner.name) => {
                    return Err(Self::taken::<K>(name));
                }
                Some(found) if objects::is_as_desired(&found, object) => {}
                _ => self.apply(&api, &name, object).await?,
            }
        }
        Ok(())
    }

    fn taken<K: Resource<DynamicType = ()>>(name: String) -> ApplyError {
        ApplyError::NameTaken { kind: K::kind(&()).to_lowercase(), name }
    }

    async fn apply<K>(&self, api: &Api<K>, name: &str, object: &K) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        // Force: a child's fields are the operator's own, whoever wrote them meanwhile.
        let parameters = PatchParams::apply(self.field_manager).force();
        let patch = Patch::Apply(objects::sealed(object));
        match api.patch(name, &parameters, &patch).await {
            // What others added to a list can contradict what is ours in it.
            Err(kube::Error::Api(status)) if status.code == 422 => {
                self.replace_lists(api, name, object).await?;
                api.patch(name, &parameters, &patch).await?;
            }
            result => drop(result?),
        }
        self.writes.inc();
        tracing::info!(kind = %K::kind(&()), namespace = self.owner.namespace, name, owner = self.owner.name, "applied");
        Ok(())
    }

    /// Brings a child back that others have changed. Server-side apply alone leaves the elements that they added to a
    /// list of ours.
    async fn repair<K>(&self, api: &Api<K>, name: &str, object: &K) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        tracing::warn!(kind = %K::kind(&()), namespace = self.owner.namespace, name, "was changed by others, and is repaired");
        self.replace_lists(api, name, object).await?;
        self.apply(api, name, object).await
    }

    /// A merge patch puts whole lists in the place of lists. The ownership that it leaves beside that of server-side
    /// apply is taken off again: it would keep fields alive that are no longer wanted.
    async fn replace_lists<K>(&self, api: &Api<K>, name: &str, object: &K) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let parameters =
            PatchParams { field_manager: Some(self.field_manager.to_owned()), ..PatchParams::default() };
        let merged = api.patch(name, &parameters, &Patch::Merge(object)).await?;
        let extra = |entry: &ManagedFieldsEntry| {
            entry.manager.as_deref() == Some(self.field_manager)
                && entry.operation.as_deref() == Some("Update")
        };
        let (removed, kept): (Vec<_>, Vec<_>) =
            merged.managed_fields().iter().partition(|entry| extra(entry));
        if !removed.is_empty() {
            let resource_version = merged.resource_version();
            let patch = json!({"metadata": {"managedFields": kept, "resourceVersion": resource_version}});
            api.patch_metadata(name, &parameters, &Patch::Merge(patch)).await?;
        }
        Ok(())
    }

    async fn delete<K>(&self, api: &Api<K>, orphan: &K) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let name = orphan.name_any();
        // Only this very object: another of the same name may be made meanwhile.
        let parameters = DeleteParams {
            preconditions: Some(Preconditions { uid: orphan.uid(), resource_version: None }),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        match api.delete(&name, &parameters).await {
            Ok(_) => {
                self.writes.inc();
                tracing::info!(kind = %K::kind(&()), namespace = self.owner.namespace, name, owner = self.owner.name, "removed");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
