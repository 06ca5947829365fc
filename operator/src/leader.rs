//! One leader by Lease. Controllers are one future: dropping it, when the lease is lost, ends every write that is under
//! way, and the replica competes again. On SIGTERM what is known about images is kept and the lease is released, so that
//! the next replica leads at once.

use kube_lease_manager::LeaseManagerBuilder;
use tokio_util::sync::CancellationToken;

use crate::{Context, OperatorError, controllers};

/// Name of the Lease in the operator's namespace.
const LEASE: &str = "berth-operator";
/// A leader that is not heard of for so long is replaced.
const DURATION_SECONDS: u64 = 15;
/// So long before the end of its lease a leader renews it, or gives up.
const GRACE_SECONDS: u64 = 5;

/// Runs the controllers whenever this replica leads. Returns when `stop` is cancelled and the lease is released.
pub(crate) async fn run(context: &Context, stop: CancellationToken) -> Result<(), OperatorError> {
    let lease = LeaseManagerBuilder::new(context.client.clone(), LEASE)
        .with_namespace(&context.settings.namespace)
        .with_identity(&context.settings.pod_name)
        .with_duration(DURATION_SECONDS)
        .with_grace(GRACE_SECONDS)
        .build()
        .await?;
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
    match task.await {
        Ok(result) => result.map(drop).map_err(OperatorError::from),
        Err(_) => Err(OperatorError::Ended("the lease manager")),
    }
}
