//! Manifests (distribution-spec, "Pulling manifests", "Pushing manifests"): always the raw bytes, always hashed here,
//! never believed from a header.

use berth_registry_core::{
    Digest, Reference, RepositoryName, Tag,
    manifest::{DOCKER_LIST, DOCKER_MANIFEST, MAX_MANIFEST, OCI_INDEX, OCI_MANIFEST},
};
use bytes::Bytes;
use reqwest::{
    Method,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue},
};

use crate::{
    auth::Scope,
    client::{Call, Client},
    error::ClientError,
};

/// A manifest as the registry keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawManifest {
    /// Digest of `bytes`, computed here.
    pub digest: Digest,
    /// Media type as announced by `Content-Type`, without parameters; empty if none was.
    pub media_type: String,
    /// The bytes, at most [`MAX_MANIFEST`].
    pub bytes: Bytes,
}

const DIGEST_HEADER: &str = "docker-content-digest";

impl Client {
    /// Reads a manifest. The digest is that of the bytes received; when the reference or the header names one, they
    /// must agree.
    pub async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<RawManifest, ClientError> {
        let call = self.manifest_call(Method::GET, repository, reference)?;
        let (headers, bytes) = self.fetch(&call, MAX_MANIFEST as u64).await?;
        let announced = match reference {
            Reference::Digest(digest) => Some(digest.clone()),
            Reference::Tag(_) => announced(&headers),
        };
        let digest = match announced {
            None => Digest::sha256(&bytes),
            Some(expected) => {
                let actual = expected.algorithm().digest(&bytes);
                if actual != expected {
                    return Err(ClientError::DigestMismatch {
                        host: self.host().to_owned(),
                        what: call.what,
                        expected,
                        actual,
                    });
                }
                actual
            }
        };
        let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        Ok(RawManifest { digest, media_type, bytes })
    }

    /// The digest of a manifest by HEAD; reads the manifest where the registry does not say it.
    pub async fn manifest_digest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Digest, ClientError> {
        let call = self.manifest_call(Method::HEAD, repository, reference)?;
        let answer = self.send(&call).await?;
        match (reference, announced(answer.headers())) {
            (Reference::Digest(digest), _) => Ok(digest.clone()),
            (Reference::Tag(_), Some(digest)) => Ok(digest),
            (Reference::Tag(_), None) => Ok(self.manifest(repository, reference).await?.digest),
        }
    }

    /// Writes a manifest as it is; returns whether the registry knows the referrers API (`OCI-Subject`).
    pub async fn put_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<bool, ClientError> {
        let path = format!("{repository}/manifests/{reference}");
        let what = format!("the push of manifest {}", display(repository, reference));
        let mut call = self.call(Method::PUT, &path, Scope::Push(repository.clone()), what)?;
        let media_type = HeaderValue::from_str(media_type)
            .map_err(|_| self.protocol(&call.what, format!("its media type {media_type:?} is malformed")))?;
        call.headers.insert(CONTENT_TYPE, media_type);
        call.body = Some(bytes);
        Ok(self.send(&call).await?.headers().contains_key("oci-subject"))
    }

    /// The digest that an image's tag points to now. A reference by digest answers itself, without a request.
    pub async fn resolve_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<Digest, ClientError> {
        // The bytes are read and hashed: a header alone would let the registry name a digest it does not serve.
        Ok(self.manifest(repository, &Reference::Tag(tag.clone())).await?.digest)
    }

    fn manifest_call(
        &self,
        method: Method,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Call, ClientError> {
        let path = format!("{repository}/manifests/{reference}");
        let what = format!("manifest {}", display(repository, reference));
        let mut call = self.call(method, &path, Scope::Pull(repository.clone()), what)?;
        for media_type in [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST] {
            call.headers.append(ACCEPT, HeaderValue::from_static(media_type));
        }
        Ok(call)
    }
}

fn announced(headers: &HeaderMap) -> Option<Digest> {
    headers.get(DIGEST_HEADER)?.to_str().ok()?.parse().ok()
}

fn display(repository: &RepositoryName, reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => format!("{repository}:{tag}"),
        Reference::Digest(digest) => format!("{repository}@{digest}"),
    }
}
