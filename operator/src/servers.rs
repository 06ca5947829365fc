//! What every replica does, leader or not.

use tokio_util::sync::CancellationToken;

use crate::{Context, OperatorError, health, stores, webhook};

/// Runs until one of them fails, or until the webhook has drained because `stop` was cancelled.
pub(crate) async fn run(
    context: Context,
    writers: stores::Writers,
    stop: CancellationToken,
) -> Result<(), OperatorError> {
    tokio::select! {
        () = stores::run(&context.client, &context.settings.namespace, writers) => Err(OperatorError::Ended("a watch")),
        result = health::serve(&context, stop.clone()) => result,
        result = webhook::run(context.clone(), stop) => result,
    }
}
