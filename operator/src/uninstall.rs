//! What the chart's pre-delete hook runs: first the operator is stopped, then its webhook goes, then the rights that it
//! gave, what it knew and what it reported. A webhook without servers would refuse every Pod that a policy speaks about; a
//! running leader would write it again.

use std::time::Duration;

use berth_operator_core::webhook_configuration;
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration, apps::v1::Deployment, core::v1::Pod,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    runtime::wait,
};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{OperatorError, kept, running, token_review};

/// The operator's own Deployment, as the chart names it, and the label of its Pods.
const DEPLOYMENT: &str = "berth-operator";
pub(crate) const PODS: &str = "app.kubernetes.io/name=berth-operator";

const PATIENCE: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(500);

/// Stops the operator, removes its webhook configuration, waits until it is gone, and removes what lets Registries ask
/// for token reviews, what is known about images and the `PolicyReports`. Registries, their content and the certificate authority stay.
pub(crate) async fn run(client: &Client, namespace: &str) -> Result<(), OperatorError> {
    stop(client, namespace).await?;
    let name = webhook_configuration::NAME;
    delete::<ValidatingWebhookConfiguration>(client, name).await?;
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let gone =
        wait::await_condition(configurations, name, |object: Option<&ValidatingWebhookConfiguration>| {
            object.is_none()
        });
    match tokio::time::timeout(PATIENCE, gone).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) | Err(_) => return Err(OperatorError::StillThere(name)),
    }
    token_review::remove(client).await?;
    kept::remove(client, namespace).await?;
    running::remove_reports(client).await?;
    tracing::info!(
        "the cluster can go on without the operator; Registries, their content and their Secrets stay"
    );
    Ok(())
}

/// Scales the operator to nothing and waits until its Pods are gone.
async fn stop(client: &Client, namespace: &str) -> Result<(), OperatorError> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let none = Patch::Merge(json!({"spec": {"replicas": 0}}));
    match deployments.patch_scale(DEPLOYMENT, &PatchParams::default(), &none).await {
        Ok(_) => tracing::info!(namespace, "the operator is told to stop"),
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(error.into()),
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let selected = ListParams::default().labels(PODS);
    let gone = async {
        while !pods.list_metadata(&selected).await?.items.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
        Ok::<_, kube::Error>(())
    };
    tokio::time::timeout(PATIENCE, gone)
        .await
        .map_err(|_| OperatorError::StillThere("a pod of the operator"))??;
    Ok(())
}

/// Deletes a cluster-wide object if it exists.
pub(crate) async fn delete<K>(client: &Client, name: &str) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    delete_from(&Api::<K>::all(client.clone()), name).await
}

/// Deletes an object if it exists.
pub(crate) async fn delete_from<K>(api: &Api<K>, name: &str) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => {
            tracing::info!(kind = %K::kind(&()), name, "removed");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}
