//! Blobs (distribution-spec, "Pulling blobs", "Pushing a blob monolithically", "Mounting a blob").
//! Large ones are streams that are hashed as they pass; a stream ends in an error rather than in wrong bytes.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use berth_registry_core::{Descriptor, Digest, RepositoryName};
use bytes::Bytes;
use futures::{
    Stream, StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use reqwest::{
    Body, Method, StatusCode, Url,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue},
};

use tokio::time::Instant;

use crate::{
    auth::Scope,
    client::{Call, Client},
    endpoint::UPLOAD_SILENCE,
    error::ClientError,
    hash::Hasher,
};

/// A blob on its way: exactly `size` bytes that hash to the digest asked for, or an error.
pub type BlobStream = BoxStream<'static, Result<Bytes, ClientError>>;

/// What bringing a blob took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// It was there already.
    Present,
    /// The destination had it in another repository.
    Mounted,
    /// So many bytes were sent.
    Sent(u64),
}

impl Client {
    /// The size of a blob, by HEAD.
    pub async fn blob_size(&self, repository: &RepositoryName, digest: &Digest) -> Result<u64, ClientError> {
        let call = self.call(
            Method::HEAD,
            &format!("{repository}/blobs/{digest}"),
            Scope::Pull(repository.clone()),
            format!("blob {repository}@{digest}"),
        )?;
        let answer = self.send(&call).await?;
        let length = answer.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        length.ok_or_else(|| self.protocol(&call.what, "Content-Length is missing"))
    }

    /// Reads a blob of at most `bound` bytes into memory and checks its digest.
    pub async fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        bound: u64,
    ) -> Result<Bytes, ClientError> {
        let call = self.blob_call(repository, digest)?;
        let (_, bytes) = self.fetch(&call, bound).await?;
        let actual = digest.algorithm().digest(&bytes);
        if actual == *digest { Ok(bytes) } else { Err(self.mismatch(call.what, digest, actual)) }
    }

    /// Reads a blob as a stream, whatever its size.
    pub async fn blob_stream(
        &self,
        repository: &RepositoryName,
        descriptor: &Descriptor,
    ) -> Result<BlobStream, ClientError> {
        let call = self.blob_call(repository, &descriptor.digest)?;
        let answer = self.send(&call).await?;
        let host = self.host().to_owned();
        let stream = answer.bytes_stream().map_err(move |e| ClientError::transport(&host, e));
        Ok(Verified {
            stream: stream.boxed(),
            hasher: Some(Hasher::new(descriptor.digest.algorithm())),
            expected: descriptor.digest.clone(),
            left: descriptor.size,
            client: self.clone(),
            what: call.what,
        }
        .boxed())
    }

    /// Writes a blob that is whole in memory.
    pub async fn put_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        bytes: Bytes,
    ) -> Result<(), ClientError> {
        self.repeat(|| async {
            let Begun::Session { url, ours } = self.begin_upload(repository, digest, None).await? else {
                return Ok(());
            };
            let (size, body) = (bytes.len() as u64, stream::iter([Ok(bytes.clone())]));
            self.finish_upload(repository, digest, url, ours, size, body).await
        })
        .await
    }

    /// Writes a blob of `size` bytes from a stream; a stream that fails leaves nothing behind.
    pub async fn put_blob_stream(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        stream: BoxStream<'static, Result<Bytes, io::Error>>,
    ) -> Result<(), ClientError> {
        match self.begin_upload(repository, digest, None).await? {
            Begun::Mounted => Ok(()),
            Begun::Session { url, ours } => {
                self.finish_upload(repository, digest, url, ours, size, stream).await
            }
        }
    }

    /// Brings a blob from `source`, a repository of another registry, into `repository` here, never whole in memory.
    /// Looks first whether it is there; tries to mount it from `mount`, if given; starts again when a connection breaks.
    pub async fn copy_blob(
        &self,
        repository: &RepositoryName,
        descriptor: &Descriptor,
        source: (&Client, &RepositoryName),
        mount: Option<&RepositoryName>,
    ) -> Result<Copied, ClientError> {
        match self.blob_size(repository, &descriptor.digest).await {
            Ok(_) => return Ok(Copied::Present),
            Err(ClientError::NotFound { .. }) => {}
            Err(other) => return Err(other),
        }
        self.repeat(|| self.copy_absent_blob(repository, descriptor, source, mount)).await
    }

    async fn copy_absent_blob(
        &self,
        repository: &RepositoryName,
        descriptor: &Descriptor,
        (source, from): (&Client, &RepositoryName),
        mount: Option<&RepositoryName>,
    ) -> Result<Copied, ClientError> {
        let digest = &descriptor.digest;
        let Begun::Session { url, ours } = self.begin_upload(repository, digest, mount).await? else {
            return Ok(Copied::Mounted);
        };
        let blob = source.blob_stream(from, descriptor).await?;
        // reqwest would wrap the source's error in one of the destination; we keep it aside to tell them apart.
        let failure: Arc<Mutex<Option<ClientError>>> = Arc::default();
        let keep = Arc::clone(&failure);
        let body = blob.map_err(move |error| {
            let text = error.to_string();
            *keep.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            io::Error::other(text)
        });
        let sent = self.finish_upload(repository, digest, url, ours, descriptor.size, body).await;
        match failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => sent.map(|()| Copied::Sent(descriptor.size)),
        }
    }

    async fn begin_upload(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        mount: Option<&RepositoryName>,
    ) -> Result<Begun, ClientError> {
        let scope = match mount {
            Some(from) => Scope::Mount(repository.clone(), from.clone()),
            None => Scope::Push(repository.clone()),
        };
        let what = format!("the push of blob {repository}@{digest}");
        let mut call = self.call(Method::POST, &format!("{repository}/blobs/uploads/"), scope, what)?;
        if let Some(from) = mount {
            let digest = digest.to_string();
            call.url.query_pairs_mut().append_pair("mount", &digest).append_pair("from", from.as_str());
        }
        call.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let answer = self.send(&call).await?;
        if answer.status() == StatusCode::CREATED {
            return Ok(Begun::Mounted);
        }
        let (url, ours) = self.location(&answer, &call.what)?;
        Ok(Begun::Session { url, ours })
    }

    async fn finish_upload(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        mut url: Url,
        ours: bool,
        size: u64,
        body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), ClientError> {
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let what = format!("the push of blob {repository}@{digest}");
        let progress = Progress::default();
        let seen = progress.clone();
        let mut request = Some(
            self.uploads()
                .request(Method::PUT, url)
                .header(CONTENT_TYPE, "application/octet-stream")
                .header(CONTENT_LENGTH, size)
                .body(Body::wrap_stream(body.inspect(move |_| seen.touch()))),
        );
        let upload = async {
            // A signed URL of another host carries its own proof.
            let answer = if ours {
                self.authorized(&Scope::Push(repository.clone()), &what, || request.take()).await?
            } else {
                let Some(request) = request.take() else { return Ok(()) };
                request.send().await.map_err(|e| ClientError::transport(self.host(), e))?
            };
            self.check(answer, &what).await.map(drop)
        };
        tokio::select! {
            result = upload => result,
            () = progress.silence(UPLOAD_SILENCE) => Err(ClientError::Unreachable {
                host: self.host().to_owned(),
                cause: format!("{what} did not move for {} seconds", UPLOAD_SILENCE.as_secs()),
            }),
        }
    }

    fn blob_call(&self, repository: &RepositoryName, digest: &Digest) -> Result<Call, ClientError> {
        let path = format!("{repository}/blobs/{digest}");
        self.call(Method::GET, &path, Scope::Pull(repository.clone()), format!("blob {repository}@{digest}"))
    }

    fn mismatch(&self, what: String, expected: &Digest, actual: Digest) -> ClientError {
        ClientError::DigestMismatch { host: self.host().to_owned(), what, expected: expected.clone(), actual }
    }
}

/// When an upload last moved.
#[derive(Clone)]
struct Progress(Arc<Mutex<Instant>>);

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Progress {
    fn touch(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Ends when nothing has moved for `limit`.
    async fn silence(&self, limit: Duration) {
        loop {
            let quiet = self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
            let Some(rest) = limit.checked_sub(quiet).filter(|rest| !rest.is_zero()) else { return };
            tokio::time::sleep(rest).await;
        }
    }
}

enum Begun {
    Mounted,
    Session { url: Url, ours: bool },
}

/// Passes bytes on while it counts and hashes them. The last chunk is held back until the digest is known to be right:
/// a reader that has its announced length asks for no more, and would miss an error after it.
struct Verified {
    stream: BlobStream,
    /// Gone once the stream has ended.
    hasher: Option<Hasher>,
    expected: Digest,
    left: u64,
    client: Client,
    what: String,
}

impl Verified {
    /// The digest of everything that passed.
    fn finish(&mut self) -> Result<(), ClientError> {
        match self.hasher.take().and_then(Hasher::finish) {
            Some(actual) if actual != self.expected => {
                Err(self.client.mismatch(self.what.clone(), &self.expected, actual))
            }
            _ => Ok(()),
        }
    }

    fn pass(&mut self, chunk: Bytes) -> Result<Bytes, ClientError> {
        let Some(left) = self.left.checked_sub(chunk.len() as u64) else {
            return Err(self.client.protocol(&self.what, "more bytes than its descriptor says"));
        };
        self.left = left;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&chunk);
        }
        if left == 0 {
            self.finish()?;
        }
        Ok(chunk)
    }
}

impl Stream for Verified {
    type Item = Result<Bytes, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.hasher.is_none() {
            return Poll::Ready(None);
        }
        let item = match ready!(this.stream.as_mut().poll_next(context)) {
            Some(Ok(chunk)) => Some(this.pass(chunk)),
            Some(Err(error)) => Some(Err(error)),
            // A connection that ends early is no wrong content: worth another try.
            None if this.left > 0 => Some(Err(ClientError::Unreachable {
                host: this.client.host().to_owned(),
                cause: format!("{} ended {} bytes early", this.what, this.left),
            })),
            None => this.finish().err().map(Err),
        };
        if !matches!(item, Some(Ok(_))) {
            this.hasher = None;
        }
        Poll::Ready(item)
    }
}
