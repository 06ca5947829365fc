//! An API server of a few lines, and the kubeconfig that leads to it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, Uri},
};
use serde_json::{Value, json};

/// Answers by path; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Cluster(Arc<Mutex<BTreeMap<String, Value>>>);

impl Cluster {
    /// Serves until the test ends; returns the text of a kubeconfig whose namespace is `team-a`.
    pub(crate) async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "team-a"}}],
        })
        .to_string()
    }

    /// From now on `path` has this object.
    pub(crate) fn put(&self, path: &str, object: Value) {
        self.0.lock().unwrap().insert(path.to_owned(), object);
    }

    /// From now on `path` lists these objects.
    pub(crate) fn list(&self, path: &str, items: &[Value]) {
        self.put(path, json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}));
    }
}

async fn answer(State(Cluster(answers)): State<Cluster>, uri: Uri) -> (StatusCode, Json<Value>) {
    if let Some(object) = answers.lock().unwrap().get(uri.path()) {
        return (StatusCode::OK, Json(object.clone()));
    }
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404,
        "message": format!("{} not found", uri.path()),
    });
    (StatusCode::NOT_FOUND, Json(status))
}
