//! Slow clients beside fast ones: two hundred uploads that trickle take no memory that a fast push needs.

use futures::future::{join_all, try_join_all};

use crate::Test;
use crate::raw::Raw;
use crate::support::content::Blob;
use crate::support::http::{Failure, ensure};
use crate::support::s3::S3;

const SLOW: usize = 200;
/// More than what an upload may hold without a share of the memory for parts.
const BEGINNING: usize = 70_000;
const WHOLE: usize = BEGINNING + 2000;

/// R-OCI-2: fast clients push and pull while all slow ones are in the middle; then these end well, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_slow_clients_starve_nobody() -> Test {
    let Some(s3) = S3::start().await else { return Ok(()) };
    let server = s3.options("slow/").start().await;
    let repo = server.target().fresh();
    let begin = || async {
        let blob = Blob::random(WHOLE);
        let mut upload = Raw::connect(&server.address).await?;
        let request = format!("POST /v2/{}/blobs/uploads/?digest={}", repo.name, blob.digest);
        upload.head(&request, Some(WHOLE)).await?;
        upload.send(&blob.bytes[..BEGINNING]).await?;
        Ok::<_, Failure>((upload, blob))
    };
    let mut uploads = try_join_all((0..SLOW).map(|_| begin())).await?;
    let fast = (0..4).map(|_| {
        let repo = server.target().fresh();
        tokio::spawn(async move {
            let blob = Blob::random(9 << 20);
            repo.push_blob(&blob).await?;
            repo.has_blob(&blob).await
        })
    });
    let mut fast = join_all(fast);
    let mut sent = BEGINNING;
    let done = loop {
        tokio::select! {
            done = &mut fast => break done,
            () = tokio::time::sleep(std::time::Duration::from_millis(50)) => {}
        }
        // A byte now and then, so that nobody is silent.
        if sent < WHOLE - 1 {
            for (upload, blob) in &mut uploads {
                upload.send(&blob.bytes[sent..=sent]).await?;
            }
            sent += 1;
        }
    };
    for pushed in done {
        pushed.map_err(|e| Failure(format!("a client panicked: {e}")))??;
    }
    let ends = uploads.into_iter().map(|(mut upload, blob)| async move {
        upload.send(&blob.bytes[sent..]).await?;
        Ok::<_, Failure>((upload.rest(Vec::new()).await?, blob))
    });
    for ((status, body), blob) in try_join_all(ends).await? {
        ensure!(status == 201, "a slow push ended with {status}: {}", String::from_utf8_lossy(&body));
        repo.has_blob(&blob).await?;
    }
    Ok(())
}
