//! Every controller, one line each. This future runs only while this replica leads; dropping it ends them all.

use crate::{Context, certs, image_policy, registry, replication, running, token_review};

/// Runs the controllers. Returns only if all of them ended, which none does by itself.
pub async fn run(context: Context) {
    context.stores.wait_until_filled().await;
    tokio::join!(
        certs::controller::run(context.clone()),
        token_review::run(context.clone()),
        registry::run(context.clone()),
        image_policy::run(context.clone()),
        replication::run(context.clone()),
        running::run(context.clone()),
        context.kept.run(),
    );
}
