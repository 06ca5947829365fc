//! The Registry controller: `fetch` the world, `validate` the spec against it, `build` the children, `apply` them,
//! write the `status`. What is decided is pure and lives in `berth_operator_core::registry`.

mod apply;
mod build;
mod fetch;
mod gate;
mod inquiry;
mod probe;
mod status;
mod validate;
mod watches;

use std::{sync::Arc, time::Duration};

use berth_crds::Registry;
use berth_operator_core::{
    conditions::State,
    registry::{Installation, RegistryError, status::refused},
};
use kube::runtime::controller::Action;

use self::inquiry::Inquiry;
use crate::{
    Context,
    apply::ApplyError,
    certs::CertificateError,
    runner::{self, Reason},
    stores::Guarded,
    unreadable,
};

/// Looked at again although nothing was seen to change: a net, should a watch have missed something.
const NET: Duration = Duration::from_mins(30);
/// While servers are not ready their reasons can change without an event.
const UNREADY: Duration = Duration::from_secs(5);

/// Why a reconciliation has to be tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server refused, or could not be reached.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// A certificate could not be made or read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The configuration could not be rendered.
    #[error("the configuration cannot be rendered: {0}")]
    Render(#[from] serde_yaml::Error),
    /// The API server sent an object without a name, a namespace or a uid.
    #[error("the object has no name, namespace or uid")]
    Nameless,
}

impl ReconcileError {
    /// Whether the cause may well lie in this object or its namespace, so that its users should read it: a quota, an
    /// admission webhook, a value that the API server refuses. A conflict or an outage passes by itself.
    fn concerns_the_object(&self) -> bool {
        match self {
            Self::Api(kube::Error::Api(status)) => matches!(status.code, 400 | 403 | 422),
            Self::Api(_) | Self::Nameless => false,
            Self::Certificate(_) | Self::Render(_) => true,
        }
    }
}

impl Reason for ReconcileError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Api(_) => "ApiFailed",
            Self::Certificate(_) => "CertificateFailed",
            Self::Render(_) => "RenderFailed",
            Self::Nameless => "Nameless",
        }
    }
}

/// Runs until it is dropped.
pub async fn run(context: Context) {
    let controller = watches::controller(&context);
    let inquiry = Arc::new(Inquiry::new(&context));
    runner::run("registry", context, controller, move |object, context| {
        let inquiry = inquiry.clone();
        async move { Box::pin(reconcile(&object, &context, &inquiry)).await }
    })
    .await;
}

/// The operator's side of every Registry.
pub(crate) fn installation(context: &Context) -> Installation {
    let settings = &context.settings;
    Installation {
        namespace: settings.namespace.clone(),
        service_account: settings.service_account.clone(),
        image: settings.registry_image.clone(),
        pull_secrets: settings.image_pull_secrets.iter().filter(|name| !name.is_empty()).cloned().collect(),
    }
}

async fn reconcile(
    object: &Guarded<Registry>,
    context: &Context,
    inquiry: &Inquiry,
) -> Result<Action, ReconcileError> {
    let registry = match &object.0 {
        Ok(registry) if registry.metadata.deletion_timestamp.is_some() => return Ok(Action::await_change()),
        Ok(registry) => registry,
        Err(invalid) => {
            let error = RegistryError::ObjectInvalid { cause: unreadable::cause(invalid) };
            unreadable::write::<Registry>(context, invalid, &refused(&error)).await?;
            return Ok(Action::requeue(NET));
        }
    };
    match converge(registry, context).await {
        Ok(applied) => {
            let mut observed = status::observe(context, registry, &applied).await?;
            apply::hurry(context, &applied, &observed).await?;
            let answer = inquiry.look(context, registry, &applied, &observed).await?;
            observed.refusal = answer.refusal;
            let state = status::write(context, registry, &applied, &observed, answer.storage).await?;
            let settled = matches!(state, State::Ready { .. }) || observed.refusal.is_some();
            let wait = applied.look_again().min(answer.again.unwrap_or(NET)).min(NET);
            Ok(Action::requeue(if settled { wait } else { UNREADY }))
        }
        Err(Failure::Refused(error)) => {
            status::write_refused(context, registry, &error).await?;
            Ok(Action::requeue(NET))
        }
        Err(Failure::Retry(error)) => {
            if error.concerns_the_object() {
                status::write_failed(context, registry, &error).await?;
            }
            Err(error)
        }
    }
}

/// How `converge` ends short.
enum Failure {
    /// Somebody has to do something; trying again is of no use.
    Refused(RegistryError),
    /// It is tried again.
    Retry(ReconcileError),
}

impl From<ReconcileError> for Failure {
    fn from(error: ReconcileError) -> Self {
        Self::Retry(error)
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::Refused(error)
    }
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Api(error) => Self::Retry(error.into()),
            ApplyError::NameTaken { kind, name } => Self::Refused(RegistryError::NameTaken { kind, name }),
        }
    }
}

/// The first four verbs.
async fn converge(registry: &Registry, context: &Context) -> Result<build::Applied, Failure> {
    let owner = validate::owner(registry, context)?;
    let fetched = fetch::fetch(context, registry, &owner).await?;
    let valid = validate::validate(registry, owner, context, &fetched)?;
    if valid.paused {
        apply::suspend(context, &valid).await.map_err(ReconcileError::from)?;
        return Ok(build::Applied::unchanged(valid));
    }
    let (children, applied) = build::build(context, valid, &fetched)?;
    apply::apply(context, &applied.registry.owner, &children).await?;
    Ok(applied)
}
