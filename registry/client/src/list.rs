//! Lists (distribution-spec, "Listing tags", "Listing referrers", and Docker's catalog): page by page through the
//! `Link` header, on the same host, up to a bound.

use berth_registry_core::{
    Descriptor, Digest, Manifest, Reference, RepositoryName, Tag,
    manifest::{MAX_MANIFEST, OCI_INDEX},
};
use reqwest::{
    Method, Url,
    header::{ACCEPT, HeaderMap, HeaderValue, LINK},
};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    auth::Scope,
    client::{Call, Client},
    error::ClientError,
};

/// The most names that a list may hold.
pub const MAX_NAMES: usize = 100_000;

/// Names on a page that we ask for.
const PAGE: &str = "1000";

#[derive(Deserialize)]
struct Catalog {
    repositories: Option<Vec<RepositoryName>>,
}

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<Tag>>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Option<Vec<Descriptor>>,
}

impl Client {
    /// All repositories of the registry, at most [`MAX_NAMES`].
    pub async fn catalog(&self) -> Result<Vec<RepositoryName>, ClientError> {
        let mut call = self.call(Method::GET, "_catalog", Scope::Catalog, "the list of repositories")?;
        call.url.query_pairs_mut().append_pair("n", PAGE);
        self.pages(call, MAX_NAMES, "repositories", |page: Catalog| page.repositories).await
    }

    /// All tags of a repository, at most [`MAX_NAMES`].
    pub async fn tags(&self, repository: &RepositoryName) -> Result<Vec<Tag>, ClientError> {
        let path = format!("{repository}/tags/list");
        let what = format!("the list of tags of {repository}");
        let mut call = self.call(Method::GET, &path, Scope::Pull(repository.clone()), what)?;
        call.url.query_pairs_mut().append_pair("n", PAGE);
        self.pages(call, MAX_NAMES, "tags", |page: Tags| page.tags).await
    }

    /// Manifests that refer to `digest`, at most `bound`; of one artifact type, if given. Where the registry has no
    /// referrers API, the index under the fallback tag answers. An absent subject has no referrers.
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        artifact_type: Option<&str>,
        bound: usize,
    ) -> Result<Vec<Descriptor>, ClientError> {
        let path = format!("{repository}/referrers/{digest}");
        let what = format!("the referrers of {repository}@{digest}");
        let mut call = self.call(Method::GET, &path, Scope::Pull(repository.clone()), what)?;
        call.headers.insert(ACCEPT, HeaderValue::from_static(OCI_INDEX));
        if let Some(artifact_type) = artifact_type {
            call.url.query_pairs_mut().append_pair("artifactType", artifact_type);
        }
        let listed = self.pages(call, bound, "referrers", |page: Index| page.manifests).await;
        let mut referrers = match listed {
            Ok(referrers) => referrers,
            // 404 is the specified answer of a registry without the API, 405 that of some routers.
            Err(ClientError::NotFound { .. } | ClientError::Refused { status: 405, .. }) => {
                self.tagged_referrers(repository, digest, bound).await?
            }
            Err(other) => return Err(other),
        };
        // A registry may ignore the filter; the tag has none.
        if let Some(artifact_type) = artifact_type {
            referrers.retain(|descriptor| descriptor.artifact_type.as_deref() == Some(artifact_type));
        }
        Ok(referrers)
    }

    /// Referrers that clients keep in the index under the fallback tag ("Referrers Tag Schema"), at most `bound`; none
    /// without it.
    pub async fn tagged_referrers(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        bound: usize,
    ) -> Result<Vec<Descriptor>, ClientError> {
        let what = format!("the referrers tag of {repository}@{digest}");
        let tag: Tag =
            digest.referrers_tag().parse().map_err(|e| self.protocol(&what, format!("its tag: {e}")))?;
        let index = match self.manifest(repository, &Reference::Tag(tag)).await {
            Ok(index) => index,
            Err(ClientError::NotFound { .. }) => return Ok(Vec::new()),
            Err(other) => return Err(other),
        };
        let media_type = Some(index.media_type.as_str());
        let index =
            Manifest::parse(media_type, &index.bytes).map_err(|e| self.protocol(&what, e.to_string()))?;
        self.within(index.manifests.len(), bound, &what, "referrers")?;
        Ok(index.manifests)
    }

    async fn pages<P: DeserializeOwned, T>(
        &self,
        mut call: Call,
        bound: usize,
        unit: &'static str,
        items: impl Fn(P) -> Option<Vec<T>>,
    ) -> Result<Vec<T>, ClientError> {
        let mut all = Vec::new();
        loop {
            let (headers, body) = self.fetch(&call, MAX_MANIFEST as u64).await?;
            let page: P = serde_json::from_slice(&body)
                .map_err(|e| self.protocol(&call.what, format!("its list is malformed: {e}")))?;
            let page = items(page).unwrap_or_default();
            let empty = page.is_empty();
            all.extend(page);
            self.within(all.len(), bound, &call.what, unit)?;
            match next(&headers, &call.url) {
                // A registry that goes on linking without items would keep us forever.
                Some(url) if !empty && url != call.url => {
                    if url.origin() != self.base().origin() {
                        return Err(self.protocol(&call.what, "its next page is on another host"));
                    }
                    call.url = url;
                }
                _ => return Ok(all),
            }
        }
    }

    fn within(&self, count: usize, bound: usize, what: &str, unit: &'static str) -> Result<(), ClientError> {
        if count <= bound {
            return Ok(());
        }
        let (host, what) = (self.host().to_owned(), what.to_owned());
        Err(ClientError::TooLarge { host, what, bound: bound as u64, unit })
    }
}

/// The target of `Link: <…>; rel="next"` (RFC 8288).
fn next(headers: &HeaderMap, base: &Url) -> Option<Url> {
    headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok()).find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            let parameter = parameter.trim().to_ascii_lowercase();
            matches!(parameter.as_str(), r#"rel="next""# | "rel=next")
        });
        is_next.then(|| base.join(target).ok()).flatten()
    })
}
