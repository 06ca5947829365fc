//! Entity tags (RFC 9110, section 8.8): content is named by its digest, so the digest is its `ETag`. Pure.

use berth_registry_core::Digest;
use http::{HeaderMap, header::IF_NONE_MATCH};

/// The `ETag` of content.
pub(super) fn etag(digest: &Digest) -> String {
    ["\"", digest.as_str(), "\""].concat()
}

/// Whether `If-None-Match` says that the client has this content already (weak comparison; `*` matches anything).
pub(super) fn client_has(headers: &HeaderMap, digest: &Digest) -> bool {
    if !headers.contains_key(IF_NONE_MATCH) {
        return false;
    }
    headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').map(str::trim).any(|tag| {
            let tag = tag.strip_prefix("W/").unwrap_or(tag);
            tag == "*" || tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) == Some(digest.as_str())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use rstest::rstest;

    #[rstest]
    #[case("\"D\"", true)]
    #[case("W/\"D\"", true)]
    #[case("\"x\", \"D\"", true)]
    #[case("*", true)]
    #[case("\"x\"", false)]
    #[case("D", false)]
    #[case("", false)]
    fn if_none_match(#[case] header: &str, #[case] has: bool) {
        let digest = Digest::sha256(b"");
        let mut headers = HeaderMap::new();
        let value = header.replace('D', &digest.to_string());
        headers.insert(IF_NONE_MATCH, HeaderValue::try_from(value).unwrap());
        assert_eq!(client_has(&headers, &digest), has, "{header}");
    }
}
