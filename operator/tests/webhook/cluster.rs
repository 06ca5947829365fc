//! An API server of a few lines: answers what a test has put down, remembers what was written, and keeps Secrets.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;

/// Clones share their content.
#[derive(Clone, Default)]
pub(crate) struct Cluster(Arc<Mutex<Content>>, watch::Sender<()>);

#[derive(Default)]
struct Content {
    /// By method and path.
    answers: HashMap<String, (u16, Value)>,
    /// Method, path and body of each write.
    writes: Vec<(String, Value)>,
    /// What watches of a path are still to be told.
    events: HashMap<String, Vec<Value>>,
}

impl Cluster {
    /// From now on `METHOD /path` is answered with this.
    pub(crate) fn answer(&self, request: &str, answer: Value) {
        self.0.lock().unwrap().answers.insert(request.to_owned(), (200, answer));
    }

    /// From now on `METHOD /path` fails.
    pub(crate) fn fail(&self, request: &str) {
        let status = status(500, "InternalError", "etcd is away");
        self.0.lock().unwrap().answers.insert(request.to_owned(), (500, status));
    }

    /// From now on `path` lists these objects, and watches of it are told what [`Cluster::tell`] says.
    pub(crate) fn list(&self, path: &str, items: &[Value]) {
        let meta = json!({"resourceVersion": "1"});
        self.answer(
            &format!("GET {path}"),
            json!({"apiVersion": "v1", "kind": "List", "metadata": meta, "items": items}),
        );
    }

    /// An object of a path that is watched is new, or different.
    pub(crate) fn tell(&self, path: &str, object: &Value) {
        self.happen(path, "MODIFIED", object);
    }

    /// An object of a path that is watched is gone.
    pub(crate) fn tell_gone(&self, path: &str, object: &Value) {
        self.happen(path, "DELETED", object);
    }

    fn happen(&self, path: &str, what: &str, object: &Value) {
        let event = json!({"type": what, "object": object});
        self.0.lock().unwrap().events.entry(path.to_owned()).or_default().push(event);
        self.1.send_replace(());
    }

    /// A body with what happened at a path, once something has. The watch is then taken up again.
    async fn watch(&self, path: &str) -> Response<Body> {
        let mut told = self.1.subscribe();
        loop {
            let events = self.0.lock().unwrap().events.remove(path);
            if let Some(events) = events {
                let lines: Vec<_> =
                    events.iter().flat_map(|event| [event.to_string(), "\n".to_owned()]).collect();
                return Response::new(Body::from(lines.concat().into_bytes()));
            }
            // Ends with the test.
            let _ = told.changed().await;
        }
    }

    /// What was written with PATCH.
    pub(crate) fn patches(&self) -> Vec<(String, Value)> {
        let writes = &self.0.lock().unwrap().writes;
        writes.iter().filter(|(request, _)| request.starts_with("PATCH ")).cloned().collect()
    }

    /// The bodies of what was sent as `METHOD /path`.
    pub(crate) fn bodies(&self, request: &str) -> Vec<Value> {
        let writes = &self.0.lock().unwrap().writes;
        writes.iter().filter(|(sent, _)| sent == request).map(|(_, body)| body.clone()).collect()
    }

    /// A client of this cluster.
    pub(crate) fn client(&self) -> kube::Client {
        let cluster = self.clone();
        kube::Client::new(tower::service_fn(move |request| cluster.clone().respond(request)), "default")
    }

    async fn respond(self, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
            return Ok(self.watch(request.uri().path()).await);
        }
        let key = format!("{} {}", request.method(), request.uri().path());
        let body = request.into_body().collect_bytes().await.unwrap();
        let mut content = self.0.lock().unwrap();
        let written: Value = serde_json::from_slice(&body).unwrap_or_default();
        if let Some(path) = key.strip_prefix("PATCH ").filter(|path| path.contains("/secrets/")) {
            for method in ["GET", "PATCH"] {
                content.answers.insert(format!("{method} {path}"), (200, written.clone()));
            }
        }
        content.writes.push((key.clone(), written));
        let missing = || (404, status(404, "NotFound", "not found"));
        let (code, body) = content.answers.get(&key).cloned().unwrap_or_else(missing);
        Ok(Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap())
    }
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
}
