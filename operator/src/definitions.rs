//! At its start the operator looks whether the cluster's definitions are those that it was built with. It says what it
//! finds and goes on: the watches of kinds that are not there yet are taken up again until they are.

use berth_crds::{SCHEMA, SCHEMA_ANNOTATION, definitions};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, ResourceExt as _};

/// Logs definitions that are missing or of another version.
pub(crate) async fn check(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for wanted in definitions() {
        let name = wanted.name_any();
        match api.get_metadata_opt(&name).await {
            Ok(Some(found))
                if found.annotations().get(SCHEMA_ANNOTATION).is_some_and(|schema| schema == SCHEMA) => {}
            Ok(Some(found)) => tracing::warn!(
                definition = name,
                installed = found.annotations().get(SCHEMA_ANNOTATION),
                wanted = SCHEMA,
                "the installed definition is of another version: upgrade the chart berth-crds"
            ),
            Ok(None) => tracing::warn!(
                definition = name,
                "the definition is not installed: install the chart berth-crds; the operator waits for it"
            ),
            Err(error) => tracing::warn!(definition = name, %error, "the definition could not be read"),
        }
    }
}
