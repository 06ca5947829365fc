//! What every replica does, leader or not.

use tokio_util::sync::CancellationToken;

use crate::{Context, OperatorError, health, stores};

/// Runs until one of them fails. A replica that was told to end is ended by [`crate::leader::run`].
pub(crate) async fn run(
    context: Context,
    writers: stores::Writers,
    stop: CancellationToken,
) -> Result<(), OperatorError> {
    tokio::select! {
        () = stores::run(&context.client, &context.settings.namespace, writers) => Err(OperatorError::Ended("a watch")),
        result = health::serve(&context, stop) => result,
    }
}
