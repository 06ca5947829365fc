//! The gate on the way of a manifest to somebody who may only pull (`gate`): a refusal is told to the client in the words
//! of the policy, to the audit log and to the metrics.

use std::sync::Arc;

use berth_registry_core::RepositoryName;
use http::{HeaderValue, header::WARNING};

use super::{App, error::ApiError};
use crate::{
    auth::Caller,
    configuration::Live,
    engine::{Engine, StoredManifest},
    gate::{Closed, Gate, Refusal},
    metrics::Metrics,
};

/// The gate, for a caller whom it concerns.
pub(super) struct Guard {
    gate: Gate,
    metrics: Arc<Metrics>,
}

impl Guard {
    /// None without a gate, and for those who pass it.
    pub(super) fn before(caller: &Caller, live: &Live, app: &App) -> Option<Self> {
        let gate = live.gate.as_ref().filter(|gate| gate.concerns(caller))?;
        Some(Self { gate: gate.clone(), metrics: app.metrics.clone() })
    }

    /// Lets the manifest pass, or answers why not.
    pub(super) async fn pass(
        &self,
        engine: &Engine,
        caller: &Caller,
        repository: &RepositoryName,
        manifest: &StoredManifest,
    ) -> Result<(), ApiError> {
        match self.gate.pass(engine, repository, manifest).await {
            Ok(()) => Ok(()),
            Err(Closed::Unknown(error)) => Err(error.into()),
            Err(Closed::Refused(refusal)) => {
                let Refusal { policies, message } = refusal.as_ref();
                let (digest, user) = (&manifest.digest, caller.name.as_deref());
                let names = policies.join(" ");
                tracing::info!(target: "audit", %repository, %digest, user, policies = names, why = message, "pull refused");
                self.metrics.pull_refused(policies);
                Err(denied(message))
            }
        }
    }
}

fn denied(message: &str) -> ApiError {
    let error = ApiError::denied(message).detail(
        "policies forbid this image to those who may only pull; who may push can still see and sign it",
    );
    // The answer to a HEAD has no body, and clients ask by HEAD first (distribution-spec, "Warnings").
    let quoted = message.replace(['"', '\\', '\n'], " ");
    match HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
        Ok(warning) => error.header(WARNING, warning),
        Err(_) => error,
    }
}
