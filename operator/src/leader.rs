//! One leader by Lease. Controllers are one future: dropping it, when the lease is lost, ends every write that is under
//! way, and the replica competes again. On SIGTERM what is known about images is kept and the lease is released, so that
//! the next replica leads at once.

use std::time::Duration;

use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{Context, OperatorError, controllers};

/// Name of the Lease in the operator's namespace.
const LEASE: &str = "berth-operator";
/// A leader that is not heard of for so long is replaced.
const DURATION_SECONDS: u64 = 15;
/// So long before the end of its lease a leader renews it, or gives up.
const GRACE_SECONDS: u64 = 5;
/// Between two tries to read the lease.
const RETRY: Duration = Duration::from_secs(2);
/// At the end the release may take so long.
const RELEASE: Duration = Duration::from_secs(5);

/// Runs the controllers whenever this replica leads. Returns when `stop` is cancelled and the lease is released.
pub(crate) async fn run(context: &Context, stop: CancellationToken) -> Result<(), OperatorError> {
    let Some(lease) = stop.run_until_cancelled(lease(context)).await else { return Ok(()) };
    let (mut leads, task) = lease.watch().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            result = leads.wait_for(|leads| *leads) => if result.is_err() { break },
        }
        tracing::info!(replica = context.settings.pod_name, "leads");
        context.metrics.leads.set(1);
        tokio::select! {
            () = stop.cancelled() => {
                context.kept.write_last().await;
                break;
            }
            () = controllers::run(context.clone()) => return Err(OperatorError::Ended("the controllers")),
            _ = leads.wait_for(|leads| !*leads) => {}
        }
        tracing::warn!(replica = context.settings.pod_name, "leads no longer");
        context.metrics.leads.set(0);
    }
    context.metrics.leads.set(0);
    // Closing the channel is what makes the manager release the lease.
    drop(leads);
    let released = timeout(RELEASE, task).await;
    if !stop.is_cancelled() {
        return Err(OperatorError::Ended("the lease manager"));
    }
    // Reviews in flight are still to be answered; a lease that could not be given back runs out.
    match released {
        Ok(Ok(Ok(_))) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "the lease could not be released"),
        Ok(Err(_)) | Err(_) => tracing::warn!("the lease could not be released in time"),
    }
    Ok(())
}

/// Competes for the lease. While the API server does not answer the webhook does, so that is no reason to end.
async fn lease(context: &Context) -> LeaseManager {
    loop {
        let builder = LeaseManagerBuilder::new(context.client.clone(), LEASE)
            .with_namespace(&context.settings.namespace)
            .with_identity(&context.settings.pod_name)
            .with_duration(DURATION_SECONDS)
            .with_grace(GRACE_SECONDS);
        match builder.build().await {
            Ok(lease) => return lease,
            Err(error) => tracing::warn!(%error, "the lease could not be read; tries again"),
        }
        sleep(RETRY).await;
    }
}
