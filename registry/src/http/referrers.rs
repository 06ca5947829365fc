//! `GET /v2/<name>/referrers/<digest>`: what is attached to a manifest (distribution-spec, "Listing Referrers"). What does
//! not fit into one manifest comes in pages, in the order of the digests.

use axum::response::{IntoResponse, Response};
use berth_registry_core::{
    Descriptor, Digest, RepositoryName,
    manifest::{MAX_MANIFEST, OCI_INDEX},
};
use http::{
    HeaderName, HeaderValue, Method,
    header::{CONTENT_TYPE, LINK},
};

use super::{Call, error::ApiError, query::percent_encode, value};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

pub(super) async fn answer(
    call: Call,
    name: &RepositoryName,
    subject: &Digest,
) -> Result<Response, ApiError> {
    if !matches!(call.method, Method::GET | Method::HEAD) {
        return Err(ApiError::method_not_allowed("GET, HEAD"));
    }
    let artifact_type = call.query.get("artifactType").filter(|artifact_type| !artifact_type.is_empty());
    let manifests = call.engine.referrers(name, subject, artifact_type).await?;
    let (index, next) = page(manifests, call.query.get("last").unwrap_or_default(), MAX_MANIFEST);
    let mut response = index.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(OCI_INDEX));
    if artifact_type.is_some() {
        headers.insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    if let Some(last) = next {
        let filter =
            artifact_type.map(|artifact_type| format!("artifactType={}&", percent_encode(artifact_type)));
        let filter = filter.unwrap_or_default();
        let link =
            format!("</v2/{name}/referrers/{subject}?{filter}last={}>; rel=\"next\"", percent_encode(&last));
        headers.insert(LINK, value(link)?);
    }
    Ok(response)
}

/// An index of at most `limit` bytes, but of one descriptor at least, with what comes after the digest `last`; and the
/// last digest in it, if there are more.
fn page(descriptors: Vec<Descriptor>, last: &str, limit: usize) -> (String, Option<String>) {
    let mut named: Vec<_> = descriptors.into_iter().map(|one| (one.digest.to_string(), one)).collect();
    named.retain(|(digest, _)| digest.as_str() > last);
    named.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let mut index = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":["#);
    let mut shown = None;
    for (digest, descriptor) in named {
        // A descriptor has nothing that JSON cannot say.
        let text = serde_json::to_string(&descriptor).unwrap_or_default();
        if shown.is_some() {
            if index.len() + text.len() + ",]}".len() > limit {
                index.push_str("]}");
                return (index, shown);
            }
            index.push(',');
        }
        index.push_str(&text);
        shown = Some(digest);
    }
    index.push_str("]}");
    (index, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn descriptor(text: &str) -> Descriptor {
        serde_json::from_value(serde_json::json!({
            "mediaType": "a/b", "size": 1, "digest": Digest::sha256(text.as_bytes()).to_string(),
        }))
        .unwrap()
    }

    #[test]
    fn pages_hold_everything_once_and_none_is_too_large() {
        let all: Vec<_> = (0..50).map(|i| descriptor(&i.to_string())).collect();
        for limit in [0, 100, 500, 1000, 1 << 20] {
            let (mut found, mut last) = (Vec::new(), String::new());
            loop {
                let (index, next) = page(all.clone(), &last, limit);
                let parsed: Value = serde_json::from_str(&index).unwrap();
                let digests: Vec<_> =
                    parsed["manifests"].as_array().unwrap().iter().map(|d| d["digest"].clone()).collect();
                assert!(index.len() <= limit || digests.len() == 1, "{} bytes", index.len());
                found.extend(digests);
                let Some(next) = next else { break };
                last = next;
            }
            let mut expected: Vec<_> = all.iter().map(|d| Value::from(d.digest.to_string())).collect();
            expected.sort_by_key(ToString::to_string);
            assert_eq!(found, expected, "{limit}");
        }
    }

    #[test]
    fn no_referrers_are_an_empty_index() {
        let (index, next) = page(Vec::new(), "", 100);
        assert!(index.ends_with(r#""manifests":[]}"#) && next.is_none(), "{index}");
    }
}
