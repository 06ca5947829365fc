//! From a request path to an endpoint, pure. Repository names contain slashes, so a path is read from its end
//! (distribution-spec, "Endpoints"). `http::dispatch` matches on the result; nothing else looks at paths.

use std::borrow::Cow;

use berth_registry_core::{Digest, Reference, RepositoryName, name::InvalidReference};

/// An endpoint with its parsed arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags(RepositoryName),
    /// `/v2/<name>/manifests/<reference>`
    Manifest(RepositoryName, Reference),
    /// `/v2/<name>/blobs/<digest>`
    Blob(RepositoryName, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(RepositoryName),
    /// `/v2/<name>/blobs/uploads/<id>`; the id is opaque here.
    Upload(RepositoryName, String),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(RepositoryName, Digest),
    /// `/healthz`
    Live,
    /// `/readyz`
    Ready,
    /// `/metrics`
    Metrics,
    /// `/berth/v1/prune`
    Prune,
    /// `/berth/v1/gc`
    Gc,
    /// `/berth/v1/scrub`
    Scrub,
    /// `/berth/v1/usage`
    Usage,
    /// `/berth/v1/undelete`
    Undelete,
    /// `/berth/v1/explain`
    Explain,
    /// `/berth/v1/evidence`
    Evidence,
}

/// A path that is no endpoint; the text says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidRoute {
    /// The path matches no endpoint.
    #[error("no endpoint has this path")]
    Unknown,
    /// A `%` escape is malformed or does not decode to UTF-8.
    #[error("the path is not valid percent-encoded UTF-8")]
    Encoding,
    /// The repository name breaks the grammar.
    #[error("{0}")]
    Name(String),
    /// The digest breaks the grammar.
    #[error("{0}")]
    Digest(String),
    /// The tag breaks the grammar.
    #[error("{0}")]
    Tag(String),
}

impl Route {
    /// Reads the path of a request, still percent-encoded.
    pub(super) fn parse(path: &str) -> Result<Self, InvalidRoute> {
        match path {
            "/healthz" => return Ok(Self::Live),
            "/readyz" => return Ok(Self::Ready),
            "/metrics" => return Ok(Self::Metrics),
            "/berth/v1/prune" => return Ok(Self::Prune),
            "/berth/v1/gc" => return Ok(Self::Gc),
            "/berth/v1/scrub" => return Ok(Self::Scrub),
            "/berth/v1/usage" => return Ok(Self::Usage),
            "/berth/v1/undelete" => return Ok(Self::Undelete),
            "/berth/v1/explain" => return Ok(Self::Explain),
            "/berth/v1/evidence" => return Ok(Self::Evidence),
            "/v2" | "/v2/" => return Ok(Self::Base),
            "/v2/_catalog" => return Ok(Self::Catalog),
            _ => {}
        }
        let path = path.strip_prefix("/v2/").ok_or(InvalidRoute::Unknown)?;
        // A name may hold escaped slashes, and words that are endpoints elsewhere: only the end tells.
        let (rest, last) = path.rsplit_once('/').ok_or(InvalidRoute::Unknown)?;
        let (name, kind) = rest.rsplit_once('/').unwrap_or(("", rest));
        let decode = |text| percent_decode(text).ok_or(InvalidRoute::Encoding);
        let (name, kind, last) = (&*decode(name)?, &*decode(kind)?, &*decode(last)?);
        match (kind, last) {
            ("blobs", "uploads") => Ok(Self::Uploads(repository(name)?)),
            ("uploads", id) => {
                let name = name.strip_suffix("/blobs").ok_or(InvalidRoute::Unknown)?;
                match id {
                    "" => Ok(Self::Uploads(repository(name)?)),
                    id => Ok(Self::Upload(repository(name)?, id.to_owned())),
                }
            }
            ("tags", "list") => Ok(Self::Tags(repository(name)?)),
            ("manifests", reference) => {
                let name = repository(name)?;
                let reference = reference.parse().map_err(|error| match error {
                    InvalidReference::Digest(error) => InvalidRoute::Digest(error.to_string()),
                    InvalidReference::Tag(error) => InvalidRoute::Tag(error.to_string()),
                })?;
                Ok(Self::Manifest(name, reference))
            }
            ("referrers", subject) => Ok(Self::Referrers(repository(name)?, digest(subject)?)),
            ("blobs", blob) => Ok(Self::Blob(repository(name)?, digest(blob)?)),
            _ => Err(InvalidRoute::Unknown),
        }
    }

    /// The endpoint's name in metrics and logs.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Catalog => "catalog",
            Self::Tags(_) => "tags",
            Self::Manifest(..) => "manifest",
            Self::Blob(..) => "blob",
            Self::Uploads(_) | Self::Upload(..) => "upload",
            Self::Referrers(..) => "referrers",
            Self::Live => "healthz",
            Self::Ready => "readyz",
            Self::Metrics => "metrics",
            Self::Prune => "prune",
            Self::Gc => "gc",
            Self::Scrub => "scrub",
            Self::Usage => "usage",
            Self::Undelete => "undelete",
            Self::Explain => "explain",
            Self::Evidence => "evidence",
        }
    }

    /// Whether it is asked every few seconds, by machines.
    pub(super) fn is_probe(&self) -> bool {
        matches!(self, Self::Live | Self::Ready | Self::Metrics)
    }

    /// The repository that the request is about.
    pub(super) fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Tags(name)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _)
            | Self::Referrers(name, _) => Some(name),
            _ => None,
        }
    }
}

fn repository(name: &str) -> Result<RepositoryName, InvalidRoute> {
    if name.is_empty() {
        return Err(InvalidRoute::Unknown);
    }
    name.parse()
        .map_err(|error: berth_registry_core::name::InvalidName| InvalidRoute::Name(error.to_string()))
}

fn digest(text: &str) -> Result<Digest, InvalidRoute> {
    text.parse()
        .map_err(|error: berth_registry_core::digest::InvalidDigest| InvalidRoute::Digest(error.to_string()))
}

/// Decodes `%xx`; `None` if an escape is malformed or the result is not UTF-8.
pub(super) fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => nibble(bytes.next()?)? << 4 | nibble(bytes.next()?)?,
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn shown(path: &str) -> String {
        match Route::parse(path) {
            Ok(Route::Upload(name, id)) => format!("upload {name} {id}"),
            Ok(Route::Uploads(name)) => format!("uploads {name}"),
            Ok(Route::Manifest(name, reference)) => format!("manifest {name} {reference}"),
            Ok(Route::Blob(name, digest)) => format!("blob {name} {digest}").replace(D, "D"),
            Ok(Route::Referrers(name, digest)) => format!("referrers {name} {digest}").replace(D, "D"),
            Ok(Route::Tags(name)) => format!("tags {name}"),
            Ok(route) => route.label().to_owned(),
            Err(InvalidRoute::Unknown) => "unknown".to_owned(),
            Err(InvalidRoute::Encoding) => "encoding".to_owned(),
            Err(InvalidRoute::Name(_)) => "bad name".to_owned(),
            Err(InvalidRoute::Digest(_)) => "bad digest".to_owned(),
            Err(InvalidRoute::Tag(_)) => "bad tag".to_owned(),
        }
    }

    #[rstest]
    #[case("/v2", "base")]
    #[case("/v2/", "base")]
    #[case("/v2/_catalog", "catalog")]
    #[case("/healthz", "healthz")]
    #[case("/readyz", "readyz")]
    #[case("/metrics", "metrics")]
    #[case("/berth/v1/prune", "prune")]
    #[case("/berth/v1/gc", "gc")]
    #[case("/berth/v1/scrub", "scrub")]
    #[case("/berth/v1/usage", "usage")]
    #[case("/berth/v1/undelete", "undelete")]
    #[case("/berth/v1/explain", "explain")]
    #[case("/berth/v1/evidence", "evidence")]
    #[case("/v2/a/tags/list", "tags a")]
    #[case("/v2/a/b/c/tags/list", "tags a/b/c")]
    #[case("/v2/a%2Fb/tags/list", "tags a/b")]
    #[case("/v2/a/manifests/latest", "manifest a latest")]
    #[case("/v2/tags/manifests/list", "manifest tags list")]
    #[case("/v2/a/manifests/tags/list", "tags a/manifests")]
    #[case("/v2/a/blobs/uploads/manifests/x", "manifest a/blobs/uploads x")]
    #[case("/v2/a/blobs/uploads", "uploads a")]
    #[case("/v2/a/blobs/uploads/", "uploads a")]
    #[case("/v2/a/blobs/uploads/01ABC", "upload a 01ABC")]
    #[case("/v2/blobs/uploads/blobs/uploads/x", "upload blobs/uploads x")]
    #[case("/v2/a/blobs/latest", "bad digest")]
    #[case("/v2/a/manifests/sha256:1", "bad digest")]
    #[case("/v2/a/manifests/.x", "bad tag")]
    #[case("/v2/a/manifests/b%2Fc", "bad tag")]
    #[case("/v2/a/referrers/..%2F..", "bad digest")]
    #[case("/v2/a/manifests/", "bad tag")]
    #[case("/v2/A/manifests/x", "bad name")]
    #[case("/v2/a//manifests/x", "bad name")]
    #[case("/v2/../manifests/x", "bad name")]
    #[case("/v2/%2e%2e/manifests/x", "bad name")]
    #[case("/v2/a!b/manifests/x", "bad name")]
    #[case("/v2/manifests/x", "unknown")]
    #[case("/v2/tags/list", "unknown")]
    #[case("/v2/blobs/uploads/", "unknown")]
    #[case("/v2/a", "unknown")]
    #[case("/v2/a/tags", "unknown")]
    #[case("/v1/", "unknown")]
    #[case("/", "unknown")]
    #[case("", "unknown")]
    #[case("/v2/a%2/tags/list", "encoding")]
    #[case("/v2/a%zz/tags/list", "encoding")]
    #[case("/v2/%ff/tags/list", "encoding")]
    fn paths(#[case] path: &str, #[case] route: &str) {
        assert_eq!(shown(path), route, "{path}");
    }

    #[test]
    fn digests() {
        assert_eq!(shown(&format!("/v2/a/b/blobs/{D}")), "blob a/b D");
        assert_eq!(shown(&format!("/v2/a/blobs/{}", D.replace(':', "%3A"))), "blob a D");
        assert_eq!(shown(&format!("/v2/a/referrers/{D}")), "referrers a D");
    }
}
