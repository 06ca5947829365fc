//! What `converge` asks of the API server, against one that answers from a table (R-OPR-1: drift, clean removal, and
//! nothing written twice).

use std::sync::{Arc, Mutex};

use berth_operator_core::objects::{self, Owner};
use http::{Method, Request, Response, StatusCode};
use k8s_openapi::{
    api::core::v1::ConfigMap,
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta},
};
use kube::{Client, ResourceExt as _, client::Body};
use serde_json::{Value, json};

use super::{Applier, ApplyError};

fn owner() -> Owner {
    Owner {
        api_version: "berth.dev/v1alpha1".into(),
        kind: "Registry".into(),
        namespace: "team-a".into(),
        name: "registry".into(),
        uid: "uid-1".into(),
        label: objects::REGISTRY_LABEL,
        application: "berth-registry",
    }
}

fn desired(value: &str) -> ConfigMap {
    ConfigMap {
        metadata: owner().child("registry-ca".into()),
        data: Some([("ca.crt".to_owned(), value.to_owned())].into()),
        ..ConfigMap::default()
    }
}

/// Runs `converge` in a namespace that holds `live`, and returns the requests that change something.
async fn converge(live: &[ConfigMap], desired: &[ConfigMap]) -> (Result<(), ApplyError>, Vec<String>) {
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let (seen, objects) = (requests.clone(), live.to_vec());
    let server = tower::service_fn(move |request: Request<Body>| {
        let (seen, objects) = (seen.clone(), objects.clone());
        async move { Ok::<_, kube::Error>(answer(request, &objects, &seen).await) }
    });
    let client = Client::new(server, "default");
    let (owner, writes) = (owner(), prometheus_client::metrics::counter::Counter::default());
    let applier =
        Applier { client: &client, owner: &owner, field_manager: "berth-registry", writes: &writes };
    let result = applier.converge(desired).await;
    let requests = requests.lock().unwrap().clone();
    (result, requests)
}

async fn answer(request: Request<Body>, live: &[ConfigMap], seen: &Mutex<Vec<String>>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect_bytes().await.unwrap();
    let name = parts.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
    let found = live.iter().find(|object| object.name_any() == name);
    let (status, answer) = match (&parts.method, found) {
        (&Method::GET, _) if name == "configmaps" => {
            let ours = |object: &&ConfigMap| object.labels().contains_key(objects::REGISTRY_LABEL);
            let items: Vec<_> = live.iter().filter(ours).collect();
            (StatusCode::OK, json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}))
        }
        (&Method::GET, Some(found)) => (StatusCode::OK, json!(found)),
        (&Method::GET, None) => {
            (StatusCode::NOT_FOUND, json!({"status": "Failure", "code": 404, "reason": "NotFound"}))
        }
        (method, _) => {
            let kind = parts.headers.get("content-type").map_or("", |kind| kind.to_str().unwrap());
            let body: Value = serde_json::from_slice(&body).unwrap();
            let what =
                body.pointer("/metadata/managedFields").or(body.pointer("/preconditions/uid")).cloned();
            let what = what.map(|what| format!(" {what}")).unwrap_or_default();
            seen.lock().unwrap().push(format!("{method} {name} {kind}{what}").replace("application/", ""));
            // What a merge patch leaves behind.
            let update = ManagedFieldsEntry {
                manager: Some("berth-registry".into()),
                operation: Some("Update".into()),
                ..ManagedFieldsEntry::default()
            };
            let meta = ObjectMeta { managed_fields: Some(vec![update]), ..ObjectMeta::default() };
            (StatusCode::OK, json!(ConfigMap { metadata: meta, ..ConfigMap::default() }))
        }
    };
    Response::builder().status(status).body(Body::from(answer.to_string().into_bytes())).unwrap()
}

#[tokio::test]
async fn what_is_as_it_should_be_is_not_written() {
    let (result, requests) = converge(&[objects::sealed(&desired("a"))], &[desired("a")]).await;
    assert!(result.is_ok());
    assert_eq!(requests, [""; 0]);
}

#[tokio::test]
async fn what_is_missing_or_differs_is_applied() {
    for live in [vec![], vec![objects::sealed(&desired("old"))]] {
        let (result, requests) = converge(&live, &[desired("a")]).await;
        assert!(result.is_ok());
        assert_eq!(requests, ["PATCH registry-ca apply-patch+yaml"]);
    }
}

#[tokio::test]
async fn what_others_changed_is_repaired_without_leaving_a_second_owner_of_fields() {
    let mut live = objects::sealed(&desired("a"));
    live.data = Some([("ca.crt".to_owned(), "changed".to_owned())].into());
    let (result, requests) = converge(&[live], &[desired("a")]).await;
    assert!(result.is_ok());
    assert_eq!(
        requests,
        [
            "PATCH registry-ca merge-patch+json",
            "PATCH registry-ca merge-patch+json []",
            "PATCH registry-ca apply-patch+yaml",
        ]
    );
}

#[tokio::test]
async fn what_is_no_longer_wanted_is_removed_by_uid() {
    let mut orphan = objects::sealed(&desired("a"));
    orphan.metadata.uid = Some("uid-of-orphan".into());
    let (result, requests) = converge(&[orphan], &[]).await;
    assert!(result.is_ok());
    assert_eq!(requests, [r#"DELETE registry-ca json "uid-of-orphan""#]);
}

#[tokio::test]
async fn what_belongs_to_another_is_left_alone() {
    // One with our label and the uid of an earlier owner, and one that is not ours at all.
    let mut other_owner = objects::sealed(&desired("a"));
    other_owner.metadata.owner_references.as_mut().unwrap()[0].uid = "uid-0".into();
    let mut foreign = desired("a");
    foreign.metadata = ObjectMeta { name: Some("registry-ca".into()), ..ObjectMeta::default() };
    for live in [other_owner.clone(), foreign] {
        let (result, requests) = converge(&[live], &[desired("a")]).await;
        let Err(ApplyError::NameTaken { kind, name }) = result else { panic!("{result:?}") };
        assert_eq!((kind.as_str(), name.as_str(), requests.len()), ("configmap", "registry-ca", 0));
    }
    let (result, requests) = converge(&[other_owner], &[]).await;
    assert!(result.is_ok() && requests.is_empty(), "an orphan of another is not ours to remove");
}
