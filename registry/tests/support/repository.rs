//! One repository of a `Target`: addresses of its parts, and the pushes with which cases prepare
//! what they are about. A push here expects the ordinary answers and is not itself the test.

use reqwest::{Method, Url};

use super::content::{Blob, Manifest, unique};
use super::http::{Call, Failure, Outcome, Reply, Target, ensure};

/// A repository, by name.
#[derive(Clone)]
pub(crate) struct Repository {
    pub(crate) target: Target,
    pub(crate) name: String,
}

impl Target {
    /// A repository that nobody has used.
    pub(crate) fn fresh(&self) -> Repository {
        self.repository(&format!("conformance/{:016x}", unique()))
    }

    /// The repository with this name.
    pub(crate) fn repository(&self, name: &str) -> Repository {
        Repository { target: self.clone(), name: name.into() }
    }
}

impl Repository {
    /// A request for something below `/v2/<name>/`.
    pub(crate) fn call(&self, method: Method, rest: &str) -> Call {
        self.target.call(method, &format!("/v2/{}/{rest}", self.name))
    }

    pub(crate) fn blob(&self, method: Method, digest: &str) -> Call {
        self.call(method, &format!("blobs/{digest}"))
    }

    pub(crate) fn manifest(&self, method: Method, reference: &str) -> Call {
        self.call(method, &format!("manifests/{reference}"))
    }

    pub(crate) fn referrers(&self, rest: &str) -> Call {
        self.call(Method::GET, &format!("referrers/{rest}"))
    }

    pub(crate) fn tags(&self, query: &str) -> Call {
        self.call(Method::GET, &format!("tags/list{query}"))
    }

    /// The request that begins an upload; `query` begins with `?` or is empty.
    pub(crate) fn post_upload(&self, query: &str) -> Call {
        self.call(Method::POST, &format!("blobs/uploads/{query}")).header("content-length", "0")
    }

    /// Begins an upload.
    pub(crate) async fn begin(&self) -> Result<Url, Failure> {
        let reply = self.post_upload("").send().await?;
        reply.status(&[202])?.location()
    }

    /// A chunk with its range, `start` being the position of the first byte.
    pub(crate) fn chunk(&self, method: Method, at: Url, start: usize, bytes: &[u8]) -> Call {
        let range = format!("{start}-{}", start + bytes.len() - 1);
        self.target
            .call_url(method, at)
            .header("content-type", "application/octet-stream")
            .header("content-range", &range)
            .body(bytes.to_vec())
    }

    /// The request that ends an upload.
    pub(crate) fn finish(&self, at: &Url, digest: &str, rest: &[u8]) -> Call {
        self.target
            .call_url(Method::PUT, with_digest(at, digest))
            .header("content-type", "application/octet-stream")
            .body(rest.to_vec())
    }

    /// Pushes a blob by POST and PUT.
    pub(crate) async fn push_blob(&self, blob: &Blob) -> Outcome {
        let at = self.begin().await?;
        let reply = self.finish(&at, &blob.digest, &blob.bytes).send().await?;
        reply.status(&[201]).map(|_| ())
    }

    /// The request that pushes a manifest, without its blobs.
    pub(crate) fn put_manifest(&self, manifest: &Manifest, reference: &str) -> Call {
        self.manifest(Method::PUT, reference)
            .header("content-type", &manifest.media_type)
            .body(manifest.bytes())
    }

    /// Pushes the blobs of a manifest.
    pub(crate) async fn push_blobs_of(&self, manifest: &Manifest) -> Outcome {
        for blob in &manifest.blobs {
            self.push_blob(blob).await?;
        }
        Ok(())
    }

    /// Pushes a manifest with its blobs under a tag or its own digest.
    pub(crate) async fn push(&self, manifest: &Manifest, reference: &str) -> Result<Reply, Failure> {
        self.push_blobs_of(manifest).await?;
        let reply = self.put_manifest(manifest, reference).send().await?;
        reply.status(&[201])?;
        Ok(reply)
    }

    /// Pushes a manifest without a tag.
    pub(crate) async fn push_untagged(&self, manifest: &Manifest) -> Result<Reply, Failure> {
        self.push(manifest, &manifest.digest()).await
    }

    /// A blob must be readable, byte for byte.
    pub(crate) async fn has_blob(&self, blob: &Blob) -> Outcome {
        let reply = self.blob(Method::GET, &blob.digest).send().await?;
        reply.status(&[200])?.bytes(&blob.bytes)?;
        Ok(())
    }

    /// A blob must not be here.
    pub(crate) async fn lacks_blob(&self, digest: &str) -> Outcome {
        let reply = self.blob(Method::HEAD, digest).send().await?;
        reply.status(&[404])?;
        Ok(())
    }

    /// A manifest must be readable under a tag or digest, byte for byte.
    pub(crate) async fn has_manifest(&self, manifest: &Manifest, reference: &str) -> Outcome {
        let reply =
            self.manifest(Method::GET, reference).header("accept", &manifest.media_type).send().await?;
        reply.status(&[200])?.bytes(&manifest.bytes())?.header("content-type", &manifest.media_type)?;
        Ok(())
    }

    /// A tag or digest must not be here.
    pub(crate) async fn lacks_manifest(&self, reference: &str) -> Outcome {
        let reply = self.manifest(Method::GET, reference).send().await?;
        reply.refused(&[404], &["MANIFEST_UNKNOWN", "NAME_UNKNOWN"])?;
        Ok(())
    }

    /// All tags of one answer, in its order.
    pub(crate) async fn tag_list(&self, query: &str) -> Result<Vec<String>, Failure> {
        let reply = self.tags(query).send().await?;
        strings(&reply, "tags")
    }
}

/// The strings of an array field of a 200 answer.
pub(crate) fn strings(reply: &Reply, field: &str) -> Result<Vec<String>, Failure> {
    let body = reply.status(&[200])?.json()?;
    let list = body[field].as_array().ok_or_else(|| reply.failure(format!("{field} is no array: {body}")))?;
    let strings: Vec<_> = list.iter().filter_map(|item| item.as_str().map(String::from)).collect();
    ensure!(strings.len() == list.len(), "{field} holds something else than strings: {body}");
    Ok(strings)
}

/// An upload's address with the digest that ends it; what the address already carries stays.
pub(crate) fn with_digest(at: &Url, digest: &str) -> Url {
    let mut url = at.clone();
    url.query_pairs_mut().append_pair("digest", digest);
    url
}
