//! A double of Google Cloud Storage for `store/object/gcs.rs`: what the documentation says of generations, multipart
//! uploads and listings, in the XML and the JSON API, and nothing more. Every listing begins with an empty page, as it may.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
};
use berth_registry_core::Digest;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;

/// The credentials of a client that shows none.
pub(super) const SERVICE_ACCOUNT: &str =
    r#"{"disable_oauth":true,"client_email":"","private_key":"","private_key_id":"","gcs_base_url":""}"#;

#[derive(Clone)]
struct Object {
    generation: u64,
    body: Bytes,
    written: Timestamp,
}

#[derive(Default)]
struct Bucket {
    name: String,
    generation: u64,
    objects: BTreeMap<String, Object>,
    /// Parts by number, of uploads by name.
    uploads: BTreeMap<String, BTreeMap<usize, Bytes>>,
}

type Shared = Arc<Mutex<Bucket>>;

/// Serves a bucket on loopback for as long as the runtime lives.
pub(super) async fn serve(bucket: &str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let shared: Shared = Arc::new(Mutex::new(Bucket { name: bucket.to_owned(), ..Bucket::default() }));
    let app = Router::new().fallback(answer).with_state(shared);
    tokio::spawn(async move { axum::serve(listener, app).await });
    endpoint
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 64 << 20).await.unwrap();
    let decode = |text: &str| reqwest::Url::parse(&format!("x:?v={}", text.replace('+', "%20"))).unwrap();
    let decode = |text: &str| decode(text).query_pairs().next().unwrap().1.into_owned();
    let query = head.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let query: BTreeMap<String, String> = query
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(k, v)| (k.to_owned(), decode(v)))
        .collect();
    let mut bucket = shared.lock().unwrap();
    let path = head.uri.path().strip_prefix("/storage/v1/b/").map(|path| (true, path));
    let (json, path) = path.unwrap_or((false, head.uri.path().trim_start_matches('/')));
    let (name, object) = path.split_once('/').unwrap_or((path, ""));
    if decode(name) != bucket.name {
        return failed(StatusCode::NOT_FOUND, if json { "notFound" } else { "NoSuchBucket" });
    }
    if json {
        let object = decode(object.strip_prefix("o/").unwrap_or_default());
        return if head.method == Method::DELETE {
            bucket.delete_if(&object, &query)
        } else {
            bucket.list(&query)
        };
    }
    let object = decode(object);
    match (head.method, query.get("uploadId")) {
        (Method::POST, None) => bucket.initiate(),
        (Method::PUT, Some(id)) => bucket.put_part(id, &query, body),
        (Method::POST, Some(id)) => bucket.complete(&object, id, &body),
        (Method::DELETE, Some(id)) => match bucket.uploads.remove(id) {
            Some(_) => StatusCode::NO_CONTENT.into_response(),
            None => failed(StatusCode::NOT_FOUND, "NoSuchUpload"),
        },
        (Method::PUT, None) => bucket.put(&object, &head.headers, body),
        (Method::DELETE, None) => match bucket.objects.remove(&object) {
            Some(_) => StatusCode::NO_CONTENT.into_response(),
            None => failed(StatusCode::NOT_FOUND, "NoSuchKey"),
        },
        _ => bucket.get(&object, &head.headers),
    }
}

fn failed(status: StatusCode, code: &str) -> Response {
    (status, format!("<?xml version='1.0'?><Error><Code>{code}</Code></Error>")).into_response()
}

fn etag(body: &Bytes) -> String {
    format!("\"{}\"", &Digest::sha256(body).hex()[..32])
}

impl Bucket {
    fn write(&mut self, name: &str, body: Bytes) -> [(&'static str, String); 2] {
        self.generation += 1;
        let headers = [("etag", etag(&body)), ("x-goog-generation", self.generation.to_string())];
        let object = Object { generation: self.generation, body, written: Timestamp::now() };
        self.objects.insert(name.to_owned(), object);
        headers
    }

    fn generation_of(&self, name: &str) -> String {
        self.objects.get(name).map_or(0, |object| object.generation).to_string()
    }

    fn put(&mut self, name: &str, headers: &HeaderMap, body: Bytes) -> Response {
        match headers.get("x-goog-if-generation-match") {
            Some(wanted) if wanted.to_str().unwrap() != self.generation_of(name) => {
                failed(StatusCode::PRECONDITION_FAILED, "PreconditionFailed")
            }
            _ => (self.write(name, body), ()).into_response(),
        }
    }

    fn get(&self, name: &str, headers: &HeaderMap) -> Response {
        let Some(object) = self.objects.get(name) else { return failed(StatusCode::NOT_FOUND, "NoSuchKey") };
        let written = object.written.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let described = [
            ("etag", etag(&object.body)),
            ("x-goog-generation", object.generation.to_string()),
            ("last-modified", written),
        ];
        let size = object.body.len();
        let Some(range) = headers.get("range") else {
            return (described, Body::from(object.body.clone())).into_response();
        };
        let (first, last) = range.to_str().unwrap().strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        let body = object.body.slice(first..(last + 1).min(size));
        let range = [("content-range", format!("bytes {first}-{}/{size}", first + body.len() - 1))];
        (StatusCode::PARTIAL_CONTENT, described, range, Body::from(body)).into_response()
    }

    fn initiate(&mut self) -> Response {
        self.generation += 1;
        let id = format!("upload-{}", self.generation);
        self.uploads.insert(id.clone(), BTreeMap::new());
        format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>")
            .into_response()
    }

    fn put_part(&mut self, id: &str, query: &BTreeMap<String, String>, body: Bytes) -> Response {
        let Some(parts) = self.uploads.get_mut(id) else {
            return failed(StatusCode::NOT_FOUND, "NoSuchUpload");
        };
        let answer = [("etag", etag(&body))];
        parts.insert(query["partNumber"].parse().unwrap(), body);
        (answer, ()).into_response()
    }

    fn complete(&mut self, name: &str, id: &str, listed: &Bytes) -> Response {
        let Some(parts) = self.uploads.get(id) else {
            return failed(StatusCode::NOT_FOUND, "NoSuchUpload");
        };
        let listed = String::from_utf8_lossy(listed);
        let mut body = Vec::new();
        for part in listed.split("<Part>").skip(1) {
            let field = |name: &str| {
                let rest = part.split_once(&format!("<{name}>")).unwrap().1;
                rest.split_once("</").unwrap().0.replace("&quot;", "\"")
            };
            match parts.get(&field("PartNumber").parse().unwrap()) {
                Some(bytes) if etag(bytes) == field("ETag") => body.extend_from_slice(bytes),
                _ => return failed(StatusCode::BAD_REQUEST, "InvalidPart"),
            }
        }
        self.uploads.remove(id);
        let headers = self.write(name, body.into());
        let etag = headers[0].1.clone();
        let answer =
            format!("<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>");
        (headers, answer).into_response()
    }

    fn delete_if(&mut self, name: &str, query: &BTreeMap<String, String>) -> Response {
        if !self.objects.contains_key(name) {
            return failed(StatusCode::NOT_FOUND, "notFound");
        }
        if query["ifGenerationMatch"] != self.generation_of(name) {
            return failed(StatusCode::PRECONDITION_FAILED, "conditionNotMet");
        }
        self.objects.remove(name);
        StatusCode::NO_CONTENT.into_response()
    }

    fn list(&self, query: &BTreeMap<String, String>) -> Response {
        let value = |name: &str| query.get(name).cloned().unwrap_or_default();
        let (prefix, offset, limit) = (value("prefix"), value("startOffset"), value("maxResults"));
        // A token is the last name that was shown, after a sign that tells the first from none.
        let Some(token) = query.get("pageToken") else {
            return json!({"nextPageToken": "="}).to_string().into_response();
        };
        let shown = token.trim_start_matches('=').to_owned();
        let fits = |name: &String| name.starts_with(&prefix) && *name >= offset && *name > shown;
        let mut found = self.objects.iter().filter(|(name, _)| fits(name));
        let page: Vec<_> = found.by_ref().take(limit.parse().unwrap()).collect();
        let item = |(name, object): &(&String, &Object)| {
            json!({"name": name, "generation": object.generation.to_string(), "size": object.body.len().to_string(),
                "updated": object.written.to_string()})
        };
        let mut answer = json!({"items": page.iter().map(item).collect::<Vec<_>>()});
        if let (Some((last, _)), Some(_)) = (page.last(), found.next()) {
            answer["nextPageToken"] = format!("={last}").into();
        }
        answer.to_string().into_response()
    }
}
