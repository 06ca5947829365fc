//! Interface under construction.
use super::*;
use berth_registry_core::{Algorithm, Reference, RepositoryName, lifecycle::Image};
#[allow(missing_docs, unused_variables, clippy::unused_async)]
impl Engine {
    pub async fn open(store: Arc<dyn Store>, options: EngineOptions) -> Result<Self, EngineError> { soon() }
    pub async fn check(&self) -> Result<(), EngineError> { soon() }
    pub async fn stat_blob(&self, repo: &RepositoryName, digest: &Digest) -> Result<BlobStat, EngineError> { soon() }
    pub async fn read_blob(&self, repo: &RepositoryName, digest: &Digest, range: Option<ByteRange>) -> Result<BlobReader, EngineError> { soon() }
    pub async fn delete_blob(&self, repo: &RepositoryName, digest: &Digest) -> Result<(), EngineError> { soon() }
    pub async fn mount(&self, repo: &RepositoryName, from: &RepositoryName, digest: &Digest) -> Result<bool, EngineError> { soon() }
    pub async fn repositories_with(&self, digest: &Digest) -> Result<Vec<RepositoryName>, EngineError> { soon() }
    pub async fn begin_upload(&self, repo: &RepositoryName, algorithm: Algorithm) -> Result<UploadId, EngineError> { soon() }
    pub async fn upload_offset(&self, repo: &RepositoryName, id: &UploadId) -> Result<u64, EngineError> { soon() }
    pub async fn append(&self, repo: &RepositoryName, id: &UploadId, expected_offset: Option<u64>, body: ByteStream) -> Result<u64, EngineError> { soon() }
    pub async fn finish_upload(&self, repo: &RepositoryName, id: &UploadId, expected_offset: Option<u64>, body: ByteStream, digest: &Digest) -> Result<BlobStat, EngineError> { soon() }
    pub async fn put_blob(&self, repo: &RepositoryName, digest: &Digest, body: ByteStream) -> Result<BlobStat, EngineError> { soon() }
    pub async fn cancel_upload(&self, repo: &RepositoryName, id: &UploadId) -> Result<(), EngineError> { soon() }
    pub async fn put_manifest(&self, repo: &RepositoryName, reference: &Reference, media_type: Option<&str>, bytes: Bytes, options: PutOptions<'_>) -> Result<PutManifest, EngineError> { soon() }
    pub async fn get_manifest(&self, repo: &RepositoryName, reference: &Reference) -> Result<StoredManifest, EngineError> { soon() }
    pub async fn stat_manifest(&self, repo: &RepositoryName, reference: &Reference) -> Result<ManifestStat, EngineError> { soon() }
    pub async fn delete_manifest(&self, repo: &RepositoryName, digest: &Digest) -> Result<(), EngineError> { soon() }
    pub async fn delete_tag(&self, repo: &RepositoryName, tag: &Tag, condition: &Condition) -> Result<(), EngineError> { soon() }
    pub async fn tags(&self, repo: &RepositoryName, last: Option<&str>, limit: usize) -> Result<Page<String>, EngineError> { soon() }
    pub async fn catalog(&self, last: Option<&str>, limit: usize) -> Result<Page<String>, EngineError> { soon() }
    pub async fn referrers(&self, repo: &RepositoryName, digest: &Digest, artifact_type: Option<&str>) -> Result<Vec<Descriptor>, EngineError> { soon() }
    pub async fn images(&self, repo: &RepositoryName) -> Result<Vec<Image>, EngineError> { soon() }
}
fn soon<T>() -> Result<T, EngineError> { Err(EngineError::StoreUnsafe("the engine is not built yet".into())) }
