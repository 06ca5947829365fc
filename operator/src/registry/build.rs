//! Third verb: the children, with the certificate that is kept or made anew.

use std::time::Duration;

use berth_operator_core::{
    certificate::{Validity, service_names},
    registry::{self, Children, Tls, ValidRegistry},
};
use jiff::Timestamp;

use super::{Failure, ReconcileError, fetch::Fetched, installation};
use crate::{Context, certs::ensure_leaf};

/// What the children were made from.
pub(super) struct Applied {
    pub(super) registry: ValidRegistry,
    /// When the certificate is good; unknown while the Registry is paused.
    pub(super) certificate: Option<Validity>,
    /// SHA-256 of the configuration; unknown while the Registry is paused.
    pub(super) configuration: Option<String>,
}

impl Applied {
    /// Of a Registry whose children are left as they are.
    pub(super) fn unchanged(registry: ValidRegistry) -> Self {
        Self { registry, certificate: None, configuration: None }
    }

    /// When the certificate has to be made anew.
    pub(super) fn look_again(&self) -> Duration {
        let wait = self.certificate.map(|validity| validity.renew_at().duration_since(Timestamp::now()));
        wait.map_or(Duration::MAX, |wait| wait.try_into().unwrap_or(Duration::ZERO))
    }
}

pub(super) fn build(
    context: &Context,
    valid: ValidRegistry,
    fetched: &Fetched,
) -> Result<(Children, Applied), Failure> {
    let now = Timestamp::now();
    let (namespace, name) = (&valid.owner.namespace, &valid.owner.name);
    let names = service_names(namespace, name);
    let (issued, renewal) =
        ensure_leaf(fetched.tls.as_ref(), &fetched.authority, &names, now).map_err(ReconcileError::from)?;
    if let Some(renewal) = renewal {
        tracing::info!(namespace, name, ?renewal, "issued a certificate");
    }
    let tls = Tls {
        certificate: issued.certificate,
        key: issued.key,
        bundle: fetched.authority.bundle().as_pem().to_owned(),
    };
    let children = registry::build(&valid, &installation(context), &tls).map_err(ReconcileError::from)?;
    let configuration = Some(children.configuration.clone());
    Ok((children, Applied { registry: valid, certificate: Some(issued.validity), configuration }))
}
