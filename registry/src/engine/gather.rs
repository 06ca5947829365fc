//! Many store calls at once, but not all at once.

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};

use super::EngineError;

/// Store calls of one request that run at once.
const WIDTH: usize = 32;

/// One piece of work; boxed, because the compiler cannot see through borrowing closures in a stream.
pub(super) type Work<'a, T> = BoxFuture<'a, Result<T, EngineError>>;

/// Boxes a piece of work.
pub(super) fn work<'a, T>(future: impl Future<Output = Result<T, EngineError>> + Send + 'a) -> Work<'a, T> {
    future.boxed()
}

/// Does all the work and answers the results in order; ends with the first failure.
pub(super) async fn gather<T: Send>(work: Vec<Work<'_, T>>) -> Result<Vec<T>, EngineError> {
    stream::iter(work).buffered(WIDTH).try_collect().await
}
