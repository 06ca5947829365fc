//! Evidence from a Berth registry in one answer. Each piece is checked against the digest by which it is asked for, as if
//! it had come by itself; what the answer leaves out is fetched by itself.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use berth_registry_core::{
    Descriptor, Digest, ImageReference, Reference, RepositoryName, Tag,
    pack::{self, MAX_PACK},
};
use bytes::Bytes;
use reqwest::Method;

use crate::{auth::Scope, client::Client, error::ClientError, manifest::RawManifest};

/// What a registry holds about one image, or nothing, where it has to be asked for each piece.
#[derive(Default)]
pub(crate) struct Pack(Option<pack::Pack>);

impl Pack {
    /// Asks for it, where that can help. A registry that has no such image, or does not know the question, gives nothing.
    pub(crate) async fn fetch(
        client: &Client,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Self, ClientError> {
        if !client.is_berth() {
            return Ok(Self::default());
        }
        let what = format!("the evidence for {repository} {reference}");
        let scope = Scope::Pull(repository.clone());
        let call = client.call_to(Method::GET, &pack::path(repository, reference), scope, what)?;
        let body = match client.fetch(&call, MAX_PACK).await {
            Ok((_, body)) => body,
            Err(ClientError::NotFound { .. }) => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let pack: pack::Pack = serde_json::from_slice(&body)
            .map_err(|error| client.protocol(&call.what, format!("it is malformed: {error}")))?;
        let right = match reference {
            Reference::Digest(digest) => *digest == pack.digest,
            Reference::Tag(_) => true,
        };
        let pack = Self(Some(pack));
        // The bytes are hashed: a word alone would let the registry name a digest that it does not serve.
        match pack.digest() {
            Some(digest) if right && pack.manifest(digest).is_some() => Ok(pack),
            _ => Err(client.protocol(&call.what, "it does not hold the image that it is about")),
        }
    }

    /// The digest of the image.
    pub(crate) fn digest(&self) -> Option<&Digest> {
        self.0.as_ref().map(|pack| &pack.digest)
    }

    /// Where a tag points, as far as it is told; an error says that there is no such tag.
    pub(crate) fn tag(&self, tag: &Tag) -> Option<Result<&Digest, NoSuchTag>> {
        Some(self.0.as_ref()?.tags.get(tag)?.as_ref().ok_or(NoSuchTag))
    }

    pub(crate) fn referrers(&self) -> Option<&[Descriptor]> {
        self.0.as_ref()?.referrers.as_deref()
    }

    pub(crate) fn manifest(&self, digest: &Digest) -> Option<RawManifest> {
        let packed = self.0.as_ref()?.manifests.get(digest)?;
        let bytes = checked(digest, &packed.bytes)?;
        Some(RawManifest {
            digest: digest.clone(),
            media_type: packed.media_type.clone(),
            bytes: bytes.into(),
        })
    }

    pub(crate) fn blob(&self, digest: &Digest) -> Option<Bytes> {
        checked(digest, self.0.as_ref()?.blobs.get(digest)?).map(Bytes::from)
    }
}

/// The registry has answered that it does not know a tag.
pub(crate) struct NoSuchTag;

fn checked(digest: &Digest, text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).ok().filter(|bytes| digest.matches(bytes))
}

/// The reference by which a registry is asked for an image: its digest, if it names one.
pub(crate) fn reference(image: &ImageReference) -> Option<Reference> {
    match (&image.digest, &image.tag) {
        (Some(digest), _) => Some(Reference::Digest(digest.clone())),
        (None, tag) => tag.clone().map(Reference::Tag),
    }
}
