//! Evidence from this registry's own store. `berth_client::evidence` says what is looked for and how much of it, here as
//! for the webhook, so that both see the same.

use berth_client::{RawManifest, evidence::Source};
use berth_registry_core::{Descriptor, Digest, Reference, RepositoryName};
use bytes::Bytes;
use futures::{FutureExt as _, TryStreamExt as _, future::BoxFuture};

use crate::engine::{Engine, EngineError, StoredManifest};

/// A repository in the store.
pub(super) struct Local<'a> {
    pub(super) engine: &'a Engine,
    pub(super) repository: &'a RepositoryName,
}

/// Why there is no evidence, which says nothing about the image.
pub(super) enum Unseen {
    /// The store did not answer.
    Engine(EngineError),
    /// There is more than anybody looks at.
    TooMuch(String),
}

impl From<EngineError> for Unseen {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl Source for Local<'_> {
    type Error = Unseen;

    fn manifest<'a>(
        &'a self,
        reference: &'a Reference,
    ) -> BoxFuture<'a, Result<Option<RawManifest>, Unseen>> {
        async move {
            match self.engine.get_manifest(self.repository, reference).await {
                Ok(StoredManifest { digest, media_type, bytes }) => {
                    Ok(Some(RawManifest { digest, media_type, bytes }))
                }
                Err(EngineError::ManifestUnknown(_)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        }
        .boxed()
    }

    fn referrers<'a>(
        &'a self,
        digest: &'a Digest,
        bound: usize,
    ) -> BoxFuture<'a, Result<Vec<Descriptor>, Unseen>> {
        async move {
            let referrers = self.engine.referrers(self.repository, digest, None).await?;
            if referrers.len() > bound {
                return Err(self.too_large("the list of referrers", bound as u64, "entries"));
            }
            Ok(referrers)
        }
        .boxed()
    }

    fn blob<'a>(&'a self, digest: &'a Digest, size: u64) -> BoxFuture<'a, Result<Option<Bytes>, Unseen>> {
        async move {
            let blob = match self.engine.read_blob(self.repository, digest, None).await {
                Ok(blob) if blob.size <= size => blob,
                // A manifest that lies about its layer has none.
                Ok(_) | Err(EngineError::BlobUnknown(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let chunks: Vec<Bytes> = blob.stream.try_collect().await?;
            Ok(Some(chunks.concat().into()))
        }
        .boxed()
    }

    fn too_large(&self, what: &str, bound: u64, unit: &'static str) -> Unseen {
        Unseen::TooMuch(format!(
            "{what} of {} is larger than the limit of {bound} {unit}: remove what refers to the image and is not needed",
            self.repository
        ))
    }
}
